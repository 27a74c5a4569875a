"""Which formats of durable states this version reads, so that workers can be upgraded one after the other.

A new version reads what older ones wrote and writes its own format. An older one refuses a newer format,
and the state stays with the workers that can read it. New fields of headers have defaults, new kinds of
entries are added beside the old; where that is not enough, what was read is converted here.

4: a journal has deltas beside entries.
3: entries and segments carry places (epoch and offset); 2 knew offsets alone.
2: totals with their aggregation, ids with their content.
"""

from metering.errors import UserError
from metering.state.fold import PLACE_SHIFT, Entry, Segment, place_in_log

FORMAT = 4
OLDEST = 2


def refuse_unreadable(found: int, where: str) -> None:
    """UserError for a format that this version cannot read."""
    if found > FORMAT:
        raise UserError(
            f"{where} was written by a newer version (state format {found}); this one reads up to {FORMAT}",
            hint="upgrade this worker; until then its partitions stay with upgraded ones",
        )
    if found < OLDEST:
        raise UserError(
            f"{where} has state format {found}; this version reads {OLDEST} to {FORMAT}",
            hint="`metering state rebuild --from log` folds the log again",
        )


def entry_of(entry: Entry, epoch: int) -> Entry:
    """An entry that was read, in this format."""
    return Entry(entry.key, entry.value, _placed(entry.version, epoch))


def segment_of(segment: Segment, epoch: int) -> Segment:
    """A segment that was read, in this format."""
    first, upto = (_placed(number, epoch) for number in (segment.first, segment.next))
    return Segment(segment.day, first, upto, segment.ids)


def _placed(number: int, epoch: int) -> int:
    """Format 2 wrote plain offsets, in the one epoch that there was."""
    return number if number >> PLACE_SHIFT else place_in_log(epoch, number)
