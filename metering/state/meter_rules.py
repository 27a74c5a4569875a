"""What a meter fold is told, and the small things that it knows: rules, counters, header."""

from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from metering.state import quota_part
from metering.state.quota_part import QuotaRules


@dataclass(frozen=True)
class MeterRules:
    """What a deployment chooses; equal on every worker, because a fold's result depends on it.

    Only `compiled` may differ: the same events read by the compiled scanner, where it was built, or not.
    """

    partition: int
    partitions: int
    events_topic: str
    hourly_topic: str
    rejected_topic: str
    epoch: int = 1
    grace_hours: int = 24
    max_future_ms: int = 300_000
    compiled: bool = True
    quotas: QuotaRules | None = None  # none are kept where usage is folded only to be looked at


class Counters(msgspec.Struct):
    """Events since the first offset; read = accepted + duplicates + rejected."""

    read: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    late: int = 0


class Snapshot(NamedTuple):
    """What was true at one offset: reported only once that offset is durable."""

    offset: int
    watermark: int
    counters: Counters


class MeterHeader(msgspec.Struct):
    """The small state of a meter fold, as it stands in a checkpoint."""

    counters: Counters
    watermark: int
    newest_day: int
    first_day: int
    boundary: int = 0
    quotas: bytes = b""


def header_of_child(header: bytes) -> bytes:
    """The header of a state that was split off: nothing was counted, nor closed, in its log."""
    held = msgspec.msgpack.decode(header, type=MeterHeader)
    quotas = quota_part.header_of_child(held.quotas)
    child = msgspec.structs.replace(held, counters=Counters(), boundary=0, quotas=quotas)
    return msgspec.msgpack.encode(child)
