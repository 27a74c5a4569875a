"""Defects of the engine that runs have shown and nobody has mended yet; delete one here when it is mended.

Some are left out of a run, so that they do not hide others; the rest are recognized in a run that went
wrong by what they leave in the logs.
"""

from collections.abc import Iterator
from typing import NamedTuple

from metering.records import PeriodClose, decode
from tests.simulation.model import PARTITIONS
from tests.simulation.world import World


class Defect(NamedTuple):
    """What goes wrong, a seed that shows it, and the kinds of faults that bring it about."""

    name: str
    seed: int
    what: str
    kinds: frozenset[str] = frozenset()


LEFT_OUT = (
    Defect(
        "older catalog",
        51,
        "A worker whose catalog is older than the state it takes over rates with old prices, at the newer"
        " revision: nothing rates those rows again before the close.",
    ),
    Defect(
        "ids deleted",
        88,
        "Id segments are deleted 36 days after they were written, but a worker that was away for days and"
        " lost its disk needs those of 35 days before the records that it still has to fold.",
        frozenset({"retention"}),
    ),
    Defect(
        "fee not posted",
        0,
        "A month that begins with usage has no fees for other customers of the partition until it closes.",
        frozenset({"open fee"}),
    ),
)
RECOGNIZED = (
    Defect(
        "closed twice",
        1560,
        "A worker that woke up late closes a period at another offset than the one that replaced it: late"
        " usage is in its close and in the other's adjustment.",
    ),
    Defect(
        "late checkpoint",
        1783,
        "A request of a dead worker, or one that woke up late, reaches a journal that has another owner by"
        " now: of two sets of pending outputs only one is kept, and perhaps not the one that is needed.",
    ),
    Defect(
        "rebuild interrupted",
        -1,
        "A worker takes a state from the journal and dies before it publishes the pending outputs: its disk is"
        " up to date, so nobody publishes them.",
    ),
)
WITHOUT = frozenset().union(*(defect.kinds for defect in LEFT_OUT))


def recognized(world: World) -> Iterator[str]:
    """Which defects left their marks in the logs of a run."""
    if _is_closed_twice(world):
        yield "closed twice"
    yield from sorted(world.marks)


def _is_closed_twice(world: World) -> bool:
    closes: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for partition in range(PARTITIONS):
        for _, value in world.broker.log(world.names.charges, partition).history:
            record = decode(value or b"")
            if isinstance(record, PeriodClose):
                content = (record.digest, record.amount)
                closes.setdefault((record.customer, record.period), set()).add(content)
    return any(len(found) > 1 for found in closes.values())
