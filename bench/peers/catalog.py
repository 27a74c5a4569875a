"""The peers: what each is, what it costs to be fair to it, and what it does not do."""

from typing import NamedTuple


class Peer(NamedTuple):
    """One peer; `share` of the events it gets, because the slow ones would take an hour for all."""

    name: str
    title: str
    share: float
    settings: str
    lacks: str
    is_limit: bool = False


PEERS = (
    Peer(
        "limit_aiokafka",
        "limit: aiokafka getmany",
        1.0,
        "defaults, commit each second",
        "no decoding, no deduplication, no totals, no state",
        is_limit=True,
    ),
    Peer(
        "limit_confluent",
        "limit: confluent consume",
        1.0,
        "consume(5000), commit each second",
        "no decoding, no deduplication, no totals, no state",
        is_limit=True,
    ),
    Peer(
        "kafka_streams",
        "Kafka Streams 4.1.1",
        1.0,
        "1 stream thread, at least once, RocksDB with 10-bit filters and 64 MiB memtables, 128 MiB cache, lz4"
        " changelogs, commit.interval.ms = ours",
        "double counts after a crash (at least once); no dead letters, rating, catalog",
    ),
    Peer(
        "kafka_streams_eos",
        "Kafka Streams 4.1.1, exactly once",
        1.0,
        "the same with exactly_once_v2",
        "no dead letters, rating, catalog",
    ),
    Peer(
        "bytewax_flow",
        "bytewax 0.21.1",
        0.2,
        "batches of 5,000, recovery store in SQLite, epoch = our checkpoint",
        "no consumer group, so partitions do not move between processes; no expiry of ids, rating",
    ),
    Peer(
        "quix",
        "quixstreams 3.28.1",
        0.2,
        "RocksDB state with changelog, at least once, lz4, commit_interval = ours",
        "double counts after a crash (at least once); no expiry of ids; no dead letters, rating",
    ),
    Peer(
        "stock_faust",
        "stock Faust 0.15.3",
        0.05,
        "two RocksDB tables with changelogs, 10-bit filters, linger 50 ms, lz4, commit interval = ours",
        "commits past changelog writes still on their way; double counts after any restart; no expiry of ids",
    ),
)


def peer(name: str) -> Peer:
    """A peer by its name."""
    return next(found for found in PEERS if found.name == name)
