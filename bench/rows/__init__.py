"""The rows of the table: each yields one `Found` a repeat."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from bench.options import Options
from bench.place import World
from bench.results import Found
from bench.rows.deep import deep
from bench.rows.fold import catchup, durable, mixed, two_workers
from bench.rows.latency import latency
from bench.rows.memory import memory
from bench.rows.peers import peers
from bench.rows.rating import rating
from bench.rows.restart import restart
from bench.rows.sink import sink

Run = Callable[[World, Options], Iterator[Found]]


class Target(NamedTuple):
    """A row or a few that belong together."""

    run: Run
    clickhouse: bool = False


TARGETS: Mapping[str, Target] = {
    "durable": Target(durable),
    "mixed": Target(mixed),
    "peers": Target(peers),
    "two-workers": Target(two_workers),
    "deep": Target(deep),
    "catchup": Target(catchup),
    "latency": Target(latency, clickhouse=True),
    "sink": Target(sink, clickhouse=True),
    "rating": Target(rating),
    "restart": Target(restart),
    "memory": Target(memory),
}
DEFAULT = ("peers", "mixed", "two-workers", "restart", "memory", "sink", "latency", "rating")
