"""What the engine wants to reach, and what a set of results says of it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from bench.results import Row
from bench.rows.fold import OURS

Rows = Mapping[str, Row]


class Reached(NamedTuple):
    """What was measured, in words, and whether it is enough."""

    text: str
    is_met: bool


class Goal(NamedTuple):
    """One goal; `reached` is None when its rows were not measured. `hinders` is said when it is not met."""

    what: str
    wanted: str
    reached: Callable[[Rows], Reached | None]
    hinders: str = ""


_SPREAD = (
    "`py-spy` on the worker sees four tenths of its CPU in the fold (half of that in the compiled "
    "scanner, the rest in ids and sums), an eighth in fetch, decompression and unpacking by aiokafka, a "
    "sixth in checkpoints, rating and RocksDB, a tenth in the journal's batches, the rest in asyncio and "
    "Faust. Tried: columns in numpy (a third of the CPU of single events), the scanner (half of the plain"
    " path, which has a row of its own), sums that wait until totals are read, ids that wait to be "
    "sorted, snappy in place of aiokafka's lz4, a frozen garbage collector, record batches that wait "
    "compressed until they are folded. Next would be to read Kafka's record format in the scanner, and to "
    "write a checkpoint's ids once. What is left is spread over libraries: bare `getmany` alone costs most "
    "of 2 µs."
)
_STEPS = (
    "Two checkpoints lie on the way, of totals and of charges, each behind the journal; the second "
    "follows the first by a quarter of `METERING_CHECKPOINT_SECONDS`. Worker, sink, ClickHouse, broker "
    "and the sender share two cores. Tried: charges in a lane before the archive, a flush every 0.2 s, "
    "several partitions an insert, patient fetches, rating from where the hours before were left. A "
    "shorter checkpoint interval is what is left; it costs CPU for each total that changes."
)
_ROWS = (
    "One Python process reads while ClickHouse stores: a third of its CPU is fetch and unpacking, a third"
    " JSON into columns, a quarter encoding and compressing the insert. Tried: columns in place of rows "
    "(a third of the CPU), one insert a table for all partitions, reading during an insert, fewer garbage"
    " collections, no merge at the insert (half of the engine's cost), rows sorted by the sink (costs "
    "what it saves), no LZ4 (no gain). The embedded engine has the other core. More sinks share the "
    "partitions."
)
_ENTRIES = (
    "A total is an entry of each fold in RocksDB, read, decoded and put into a dictionary. Tried: no "
    "garbage collection while loading (two fifths of the time), entries of the rate fold decoded when "
    "their customer is asked for, one decoder. Next would be totals of older hours left on disk."
)
_MAPPED = (
    "The part that grows is what is not on disk yet: ids up to `METERING_MEMORY_IDS` a partition, and "
    "RocksDB's tables in memory. It stays within these bounds."
)
_BROKER = (
    "Two workers and the broker share two cores: what the broker takes is missing. It was 1.82 × when a"
    " worker needed twice the CPU an event."
)


def find(rows: Rows, start: str) -> Row | None:
    """The row of this name, or the first whose name starts so."""
    return rows.get(start) or next((row for name, row in rows.items() if name.startswith(start)), None)


def _times(other: str, least: float) -> Callable[[Rows], Reached | None]:
    def reached(rows: Rows) -> Reached | None:
        ours, peer = find(rows, OURS), find(rows, other)
        if ours is None or peer is None:
            return None
        ratio = peer.cpu()[0] / ours.cpu()[0]
        return Reached(f"{ratio:.2f} × ({ours.cpu()[0]:.2f} against {peer.cpu()[0]:.2f} µs)", ratio >= least)

    return reached


def _limit(rows: Rows) -> Reached | None:
    ours, limit = find(rows, OURS), find(rows, "limit: aiokafka")
    if ours is None or limit is None:
        return None
    ratio = ours.cpu()[0] / limit.cpu()[0]
    return Reached(f"{ratio:.2f} × its cost of {limit.cpu()[0]:.2f} µs", ratio <= 1)


def _alone(rows: Rows) -> Reached | None:
    ours = find(rows, OURS)
    return Reached(f"{ours.cpu()[0]:.2f} µs", ours.cpu()[0] <= 2) if ours else None


def _deep(rows: Rows) -> Reached | None:
    found = [row for name, row in rows.items() if name.endswith("ids deep")]
    if len(found) < 2:
        return None
    few, many = sorted(found, key=lambda row: row.best.parts["ids"])[:: len(found) - 1]
    ratio = many.cpu()[0] / few.cpu()[0]
    depths = " against ".join(f"{row.best.parts['ids'] / 1e6:.0f}" for row in (many, few))
    is_deep = many.best.parts["ids"] >= 1e8
    return Reached(f"{ratio:.2f} × at {depths} million ids", is_deep and ratio <= 1.5)


def _catch_up(rows: Rows) -> Reached | None:
    row = find(rows, "catch-up")
    if row is None:
        return None
    parts = row.best.parts
    text = (
        f"{row.best.events / 1e6:.0f} million: slowest tenth {parts['slowest_tenth']:.2f} × the mean,"
        f" memory {parts['rss_at_half']:,.0f} MiB at half, {parts['rss_at_end']:,.0f} at the end"
    )
    is_flat = parts["rss_at_end"] < 1.25 * parts["rss_at_half"] and parts["slowest_tenth"] < 1.5
    return Reached(text, is_flat and row.best.events >= 10_000_000)


def _latency(rows: Rows) -> Reached | None:
    row = find(rows, "latency")
    if row is None or "p50" not in row.best.parts:
        return None
    parts = row.best.parts
    text = f"median {parts['p50']:.2f} s, 99 % {parts['p99']:.2f} s at {row.best.settings['rate']:,} events/s"
    return Reached(text, parts["p50"] < 2 and parts["p99"] < 5)


def _sink(rows: Rows) -> Reached | None:
    row = find(rows, "sink")
    return Reached(f"{row.rate()[0]:,.0f} rows/s", row.rate()[0] >= 300_000) if row else None


def _kernel(rows: Rows) -> Reached | None:
    found = [row for name, row in rows.items() if name.startswith("rating: numpy") and name.endswith(" h")]
    if not found:
        return None
    slowest = min(row.rate()[0] for row in found)
    return Reached(f"{slowest / 1e6:.1f} million rows/s at the dearest prices", slowest >= 1e7)


def _month(rows: Rows) -> Reached | None:
    row = find(rows, "what-if")
    if row is None:
        return None
    whole = "100,000" in row.name
    return Reached(
        f"{row.best.seconds:.1f} s for {row.name.partition('of ')[2]}", whole and row.best.seconds < 60
    )


def _restart(name: str, most: float) -> Callable[[Rows], Reached | None]:
    def reached(rows: Rows) -> Reached | None:
        row = find(rows, f"restart from the {name}")
        if row is None:
            return None
        best = row.best
        keys = best.parts["hourly_totals"]
        is_large = best.events >= 10_000_000 and keys >= 900_000
        text = f"{best.seconds:.1f} s with {best.events / 1e6:.1f} million ids and {keys:,.0f} totals"
        return Reached(text, is_large and best.seconds < most)

    return reached


def _two(rows: Rows) -> Reached | None:
    one, two = find(rows, "one worker"), find(rows, "two workers")
    if one is None or two is None:
        return None
    ratio = two.rate()[0] / one.rate()[0]
    dearer = two.cpu()[0] / one.cpu()[0]
    return Reached(f"{ratio:.2f} × the events/s, {dearer:.2f} × the CPU an event", ratio >= 1.8)


def _memory(rows: Rows) -> Reached | None:
    parts: dict[str, float] = {}
    for row in rows.values():
        parts |= row.best.parts
    if not parts.keys() >= {"mib_a_million_ids", "mib_a_thousand_customer_meters", "bytes_an_hourly_total"}:
        return None
    return Reached(
        f"{parts['mib_a_million_ids']:.0f} MiB a million ids in memory,"
        f" {parts['mib_a_thousand_customer_meters']:.1f} MiB a thousand customer-meters,"
        f" {parts['bytes_an_hourly_total']:.0f} bytes an hourly total",
        True,
    )


GOALS = (
    Goal(
        "durable path",
        "≥ 10 × less CPU an event than Kafka Streams",
        _times("Kafka Streams 4.1.1", 10),
        _SPREAD,
    ),
    Goal("durable path", "≥ 80 × less CPU an event than stock Faust", _times("stock Faust", 80), _SPREAD),
    Goal("durable path", "no more CPU than aiokafka's bare `getmany`", _limit, _SPREAD),
    Goal("durable path", "≤ 2 µs an event on a quiet machine", _alone, _SPREAD),
    Goal("100 million ids deep", "≤ 1.5 × the cost at 1 million", _deep),
    Goal("catch-up of 10 million events", "linear, memory flat", _catch_up, _MAPPED),
    Goal("event to charge row in ClickHouse", "median < 2 s, 99 % < 5 s", _latency, _STEPS),
    Goal("sink into ClickHouse", "≥ 300,000 rows/s", _sink, _ROWS),
    Goal("rating kernel", "≥ 10 million hourly rows/s and core", _kernel),
    Goal("a month of 100,000 customer-meters rated again", "< 60 s", _month),
    Goal("restart, 10 million ids, 1 million totals", "< 10 s from disk", _restart("disk", 10), _ENTRIES),
    Goal("restart, 10 million ids, 1 million totals", "< 60 s from the journal", _restart("journal", 60)),
    Goal("two workers on two cores", "≥ 1.8 × one", _two, _BROKER),
    Goal("memory", "stated", _memory),
)
