"""A log folded again gives what was decided then, under the catalogs and at the closes of then."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import pytest

from metering.catalog.resolved import Catalog
from metering.records import PeriodClose, Watermark, encode, version
from metering.recovery.canonical import canonical, place_of
from metering.recovery.evidence import Stage, stages_of
from metering.recovery.history import Catalogs, Schedule, Unavailable
from metering.recovery.refold import Refolded, refold_meter, refold_rate
from metering.state.fold import Changes, Chunk, Saved
from metering.state.rate_fold import RateFold
from tests.state.folding import CATALOG, NOW, catalog, chunk, event, meter_fold, rate_fold, records

DEARER = CATALOG.replace('"0.10"', '"0.20"')
ONE, TWO = (replace(catalog(text), revision=n) for n, text in enumerate((CATALOG, DEARER), 1))
CLOSING = encode(Watermark(0, NOW, str(version(1, 1))))


class Known(Catalogs):
    """Catalogs that are given."""

    def __init__(self, *given: Catalog) -> None:
        super().__init__({})
        self._resolved = {found.revision: found for found in given}
        self._found = dict.fromkeys(self._resolved)  # type: ignore[assignment]


def hourly(*batches: list[bytes]) -> list[list[bytes]]:
    """The totals that a meter fold makes of each batch, without its watermarks."""
    fold, made, offset = meter_fold(), [], 0
    for batch in batches:
        fold.fold([chunk(offset, batch)], ONE)
        offset += len(batch)
        found = records([fold.changes()], "hourly")
        made.append([encode(record) for record in found if not isinstance(record, Watermark)])
    return made


def lived(fold: RateFold, pieces: Iterable[tuple[list[bytes], Catalog]]) -> tuple[Saved, list[PeriodClose]]:
    """What a worker holds after some checkpoints, and the closes that it published."""
    entries: dict[bytes, Any] = {}
    closes: list[PeriodClose] = []
    offset, changes = 0, None
    for values, in_force in pieces:
        fold.adopt(in_force)
        fold.fold([chunk(offset, values)], in_force)
        offset += len(values)
        changes = fold.changes()
        assert changes is not None
        closes += [r for r in records([changes], "charges") if isinstance(r, PeriodClose)]
        for entry in changes.entries:
            entries.pop(entry.key, None) if entry.value is None else entries.update({entry.key: entry})
    assert changes is not None
    return Saved(changes.offset, changes.header, list(entries.values()), []), closes


async def chunks_of(*found: Chunk) -> AsyncIterator[list[Chunk]]:
    for one in found:
        yield [one]


async def refolded(saved: Saved, closes: list[PeriodClose], *log: Chunk) -> Refolded:
    return await refold_rate(
        rate_fold(), chunks_of(*log), [place_of(saved)], stages_of(closes), Known(ONE, TWO)
    )


FIRST, LATE = hourly([event(1, n=100), event(2, "b", n=50)], [event(3, n=200)])


@pytest.mark.parametrize(
    "pieces",
    [
        [([*FIRST, CLOSING], ONE), (LATE, ONE)],  # the late total came behind the close
        [([*FIRST, CLOSING, *LATE], ONE)],  # one checkpoint took both
        [([*FIRST, CLOSING], ONE), (LATE, TWO)],  # a dearer catalog came after the close
        [(FIRST, ONE), ([CLOSING], TWO), (LATE, TWO)],  # and before it
    ],
)
async def test_closed_periods_come_out_as_they_were_closed(pieces: list[tuple[list[bytes], Catalog]]) -> None:
    saved, closes = lived(rate_fold(), pieces)
    assert closes
    whole = chunk(0, [*FIRST, CLOSING, *LATE])
    again = await refolded(saved, closes, whole)
    assert canonical(again.saved[place_of(saved)]) == canonical(saved)
    assert sorted(again.closes, key=str) == sorted(closes, key=str)
    assert not again.is_compacted


async def test_a_watermark_that_was_compacted_away_is_known_from_the_close() -> None:
    log = [*FIRST, CLOSING, encode(Watermark(0, NOW + 1, str(version(1, 2))))]
    saved, closes = lived(rate_fold(), [(log[:-1], ONE), (log[-1:], ONE)])
    offsets = [n for n in range(len(log)) if n != len(FIRST)]
    compacted = Chunk(0, len(log), offsets, [log[n] for n in offsets], NOW)
    again = await refolded(saved, closes, compacted)
    assert again.is_compacted
    assert sorted(again.closes, key=str) == sorted(closes, key=str)


async def test_a_revision_that_is_gone_is_not_replaced_by_another() -> None:
    saved, closes = lived(rate_fold(), [([*FIRST, CLOSING], ONE)])
    with pytest.raises(Unavailable, match="revision 1 is no longer"):
        await refold_rate(
            rate_fold(),
            chunks_of(chunk(0, [*FIRST, CLOSING])),
            [place_of(saved)],
            stages_of(closes),
            Known(TWO),
        )


async def test_every_place_that_is_wanted_is_kept() -> None:
    values = [*FIRST, CLOSING, *LATE]
    found = await refold_rate(
        rate_fold(), chunks_of(chunk(0, values)), [(1, 1), (1, 2), (4, 2)], [Stage(9, 2, 1)], Known(ONE, TWO)
    )
    assert set(found.saved) == {(1, 1), (1, 2), (4, 2)}


NEWCOMER = catalog(
    CATALOG.replace(
        "customers:",
        "customers:\n  - {id: z, name: Z, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}",
    )
)


async def test_an_event_that_was_refused_then_is_refused_again() -> None:
    """Its customer came with revision 2; the same event sent again after that was accepted."""
    values = [event(1), event(2, "z"), event(2, "z"), event(3)]
    fold = meter_fold()
    fold.fold([chunk(0, values[:2])], ONE)
    fold.fold([chunk(2, values[2:])], replace(NEWCOMER, revision=2))
    lived_through = fold.changes()
    assert lived_through is not None
    assert fold.counters.rejected == 1
    schedule = Schedule([(0, 1), (1, 2)])  # by the time alone, all of it came under revision 2
    schedule.note(1, 1)
    published: list[Changes] = []

    async def publish(changes: Changes) -> None:
        published.append(changes)

    known = Known(ONE, replace(NEWCOMER, revision=2))
    log = chunks_of(chunk(0, values))
    again = await refold_meter(meter_fold(), log, [(3, 0), (4, 0)], schedule, known, publish)
    header = canonical(again.saved[4, 0]).header
    assert header["counters"]["rejected"] == 1
    assert header["counters"]["accepted"] == 3
    letters = [o for changes in published for o in changes.outputs if o.topic == "rejected"]
    assert len(letters) == 1
