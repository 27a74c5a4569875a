"""Positions and watermarks only go on, within the log, and every partition says so."""

from metering.invariants.base import Broken, Invariant
from metering.invariants.facts import Facts
from metering.records import Progress
from metering.standing import Standing

STUCK_SECONDS = 60.0
BEHIND_SECONDS = 60.0


class PositionsForward(Invariant):
    """No state forgets what it has counted."""

    name = "positions_forward"
    means = "no partition's position is lower than it was before, in the books or in an earlier round"
    remedy = (
        "A state was lost and is folded again from the log; wait until it has caught up, then run `metering"
        " state verify`. If nothing was lost, stop the workers and verify at once."
    )

    def check(self, facts: Facts) -> list[Broken]:
        """Compare the latest report with the highest one."""
        found = []
        for partition, report in facts.progress.items():
            highest = _highest(facts, partition, report)[0]
            if report.offset < highest:
                found.append(
                    Broken(f"partition {partition}", f"at {report.offset:,}", f"{highest:,} or more")
                )
        return found


class WatermarkForward(Invariant):
    """Time does not run backwards: a closed hour or period stays closed."""

    name = "watermark_forward"
    means = "no partition's watermark is lower than it was before, in the books or in an earlier round"
    remedy = (
        "As for `positions_forward`; if positions are right, the fold is wrong: stop the workers, keep the"
        " state folders, and run `metering state verify`."
    )

    def check(self, facts: Facts) -> list[Broken]:
        """Compare the latest report with the highest one."""
        found = []
        for partition, report in facts.progress.items():
            highest = _highest(facts, partition, report)[1]
            if report.watermark < highest:
                place = f"partition {partition}"
                found.append(Broken(place, f"{report.watermark:,} ms", f"{highest:,} ms or more"))
        return found


def _highest(facts: Facts, partition: int, report: Progress) -> tuple[int, int]:
    """The highest position and watermark known of a partition in this epoch."""
    offset = watermark = 0
    stored, seen = facts.reported.get(partition), facts.seen.place(report.epoch, partition)
    if stored is not None and stored.epoch == report.epoch:
        offset, watermark = stored.offset, stored.watermark
    if seen is not None:
        offset, watermark = max(offset, seen.offset), max(watermark, seen.watermark)
    return offset, watermark


class SinkWithinLog(Invariant):
    """The sink has read what is there, and missed nothing that was deleted."""

    name = "sink_within_log"
    means = "each position of the sink lies between the beginning and the end of its log"
    remedy = (
        "Beyond the end: the topic was created anew, use another METERING_DATABASE. Before the beginning:"
        " Kafka deleted records before they were stored; restore them, and give topics a longer retention."
    )

    def check(self, facts: Facts) -> list[Broken]:
        """Compare each stored position with the log; the positions were read first."""
        found = []
        for (topic, partition), offset in facts.stored.items():
            log = facts.bounds.get((topic, partition))
            if log is not None and not log.first <= offset <= log.end:
                place = f"{topic} {partition}"
                found.append(Broken(place, f"at {offset:,}", f"{log.first:,} to {log.end:,}"))
        return found


class PartitionsReport(Invariant):
    """Quiet and dead look different: a quiet partition reports, a dead one does not."""

    name = "partitions_report"
    means = "each partition reports within 15 seconds, and moves within a minute when there is input"
    remedy = (
        "No report: no worker owns the partition; start one, and read its log if it ended (exit code 70 says"
        " why in its last line). Stuck: read the worker's log; a restart is exact."
    )

    def check(self, facts: Facts) -> list[Broken]:
        """Look at the age of each report, and at input that is not taken."""
        found = []
        for one in facts.standings:
            state = _dead(facts, one) if one.state == "dead" else _stuck(facts, one)
            if state:
                found.append(Broken(f"partition {one.partition}", state, "a report each second"))
        return found


def _dead(facts: Facts, one: Standing) -> str:
    if not one.reported_at:
        return "dead: it has never reported"
    silence = (facts.now - one.reported_at) / 1_000
    return f"dead: {one.owner} reported {silence:,.0f} s ago, at {one.offset:,}"


def _stuck(facts: Facts, one: Standing) -> str:
    """What is wrong with a partition whose owner reports; empty when it moves or has nothing to do."""
    seen = facts.seen.place(facts.progress[one.partition].epoch, one.partition)
    if one.lag and seen is not None and one.offset <= seen.offset:
        standing = (facts.now - seen.since) / 1_000
        if standing > STUCK_SECONDS:
            return f"stuck: at {one.offset:,} of {one.offset + one.lag:,} for {standing:,.0f} s"
    return ""


class SinkStores(Invariant):
    """The books are the present."""

    name = "sink_stores"
    means = "each partition's report is stored within a minute while its worker reports"
    remedy = (
        "No sink runs, or ClickHouse is away: nothing is lost, Kafka keeps the rows. Start the sink; its log"
        " says what it waits for."
    )

    def check(self, facts: Facts) -> list[Broken]:
        """Compare the report on its topic with the one in the books."""
        found = []
        for partition, report in facts.progress.items():
            stored = facts.reported.get(partition)
            behind = (report.at - stored.at) / 1_000 if stored is not None else None
            if behind is None or behind > BEHIND_SECONDS:
                age = "not stored yet" if behind is None else f"{behind:,.0f} s behind"
                found.append(Broken(f"partition {partition}", age, f"within {BEHIND_SECONDS:.0f} s"))
        return found
