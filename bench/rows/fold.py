"""Rows of the worker alone: the durable path, a mixed load, a long catch-up, two workers."""

from collections.abc import Iterator

from bench.measuring import durable as measure
from bench.options import Options
from bench.place import World
from bench.results import Found

OURS = "durable path"
PLAIN = "plain Python: the durable path without the compiled scanner"
_CATCH_UP = 10  # times the events of the other rows


def durable(world: World, options: Options) -> Iterator[Found]:
    """All ids new, lz4, one worker; then the same without the compiled scanner."""
    for _ in range(options.repeats):
        yield measure(world, OURS, options.loaded())
        yield measure(world, PLAIN, options.loaded(), compiled=False)


def mixed(world: World, options: Options) -> Iterator[Found]:
    """Copies, late and malformed events, 20 of them in a record."""
    load = options.loaded(copies=0.05, late=0.03, malformed=0.005, envelope=20)
    for _ in range(options.repeats):
        yield measure(world, "mixed load: 5 % copies, 3 % late, 0.5 % malformed, 20 a record", load)


def catchup(world: World, options: Options) -> Iterator[Found]:
    """What piled up during an outage: the speed of each tenth, and the memory."""
    load = options.loaded(events=options.events * _CATCH_UP, hours=8)
    found = measure(world, f"catch-up of {load.events:,} events", load)
    seconds, records, rss = (found.series[name] for name in ("seconds", "records", "rss"))
    reached = [
        next(at for at, count in zip(seconds, records, strict=True) if count >= found.events * tenth / 10)
        for tenth in range(1, 10)
    ]
    steps = [b - a for a, b in zip([0.0, *reached], reached, strict=False)]
    found.parts["slowest_tenth"] = max(steps) / (sum(steps) / len(steps))
    half = next(size for size, count in zip(rss, records, strict=True) if count >= found.events / 2)
    found.parts["rss_at_half"], found.parts["rss_at_end"] = half, rss[-1]
    yield found


def two_workers(world: World, options: Options) -> Iterator[Found]:
    """The same load folded by one worker and by two, in turn."""
    for _ in range(options.repeats):
        yield measure(world, "one worker of the pair", options.loaded())
        yield measure(world, "two workers", options.loaded(), workers=2)
