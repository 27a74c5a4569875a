"""Every event has one outcome, and every refusal is a dead letter."""

from metering.invariants.base import Broken, Invariant
from metering.invariants.facts import Facts


class Outcomes(Invariant):
    """Nothing is read without being counted."""

    name = "outcomes"
    means = "accepted + duplicates + rejected = read, in every partition"
    remedy = (
        "The worker's counters are wrong: stop billing, run `metering state verify`, and rebuild the"
        " partition with `metering state rebuild`."
    )

    def check(self, facts: Facts) -> list[Broken]:
        """Compare the four counters of each partition's latest report."""
        found = []
        for partition, r in facts.reported.items():
            outcomes = r.accepted + r.duplicates + r.rejected
            if outcomes != r.read:
                found.append(Broken(f"partition {partition}", f"{outcomes:,} outcomes", f"{r.read:,} read"))
        return found


class DeadLetters(Invariant):
    """Nothing is dropped silently."""

    name = "dead_letters"
    means = "dead letters stored = events rejected, in every partition"
    remedy = (
        "Letters are missing in ClickHouse: read the sink's log, then compare with a database read anew by"
        " `metering rebuild clickhouse --into NAME`."
    )
    travels = True

    def check(self, facts: Facts) -> list[Broken]:
        """Count the letters that each report includes; letters that Kafka has deleted may be gone."""
        rows = facts.rows(
            "SELECT r.k_partition, count() FROM rejected_current AS r"
            " INNER JOIN (SELECT partition, next_offset FROM progress_current WHERE fold = 'meter') AS p"
            " ON p.partition = r.k_partition"
            " WHERE r.k_topic = {topic:String} AND r.k_index != -2 AND r.k_offset < p.next_offset"
            " GROUP BY r.k_partition",
            topic=facts.names.events,
        )
        letters = {int(partition): int(count) for partition, count in rows}
        whole = [p for p in facts.reported if facts.bounds[facts.names.rejected, p].first == 0]
        return [
            Broken(
                f"partition {p}", f"{letters.get(p, 0):,} letters", f"{facts.reported[p].rejected:,} rejected"
            )
            for p in whole
            if letters.get(p, 0) != facts.reported[p].rejected
        ]


class NothingRefused(Invariant):
    """What the worker makes, ClickHouse takes."""

    name = "nothing_refused"
    means = "ClickHouse has refused no row of ours"
    remedy = (
        "A row is missing in the books: the letter (`metering rejected list --reason sink_refused`) says"
        " which and why; correct the cause, then `metering rebuild clickhouse`."
    )

    def check(self, facts: Facts) -> list[Broken]:
        """Look for the letters that the sink writes about its own rows."""
        rows = facts.rows(
            "SELECT k_topic, k_partition, k_offset, event_type, substring(detail, 1, 120)"
            " FROM rejected_current WHERE k_index = -2 ORDER BY k_topic, k_partition, k_offset"
        )
        return [
            Broken(f"{topic} {partition}:{offset}", f"a row for {table}: {detail}", "stored")
            for topic, partition, offset, table, detail in rows
        ]
