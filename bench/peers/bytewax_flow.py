"""bytewax: keyed state on its Rust engine, snapshots of state and positions in its recovery store.

Ids are keyed each by itself: state by customer would be pickled whole in every epoch.
"""

from datetime import timedelta
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main

from bench.peers.contract import Orders, place_of

_decode = msgspec.json.Decoder().decode
_BATCH = 5_000


def flow_of(orders: Orders, found: dict[str, tuple[int, int]]) -> Dataflow:
    """Decode, deduplicate, add up by the hour."""
    taken = 0

    def decode(message: Any) -> tuple[str, dict[str, Any]]:
        nonlocal taken
        taken += 1
        if taken % 100 == 0:
            orders.report(taken)
        event = _decode(message.value)
        return f"{event['customer']}\0{event['source']}\0{event['id']}", event

    def first(state: bool | None, event: dict[str, Any]) -> tuple[bool, dict[str, Any] | None]:
        return True, None if state else event

    def place(event: dict[str, Any]) -> tuple[str, int]:
        return place_of(event["customer"], event["data"]["region"], event["time"]), event["data"]["n"]

    def add(state: tuple[int, int] | None, quantity: int) -> tuple[tuple[int, int], tuple[int, int]]:
        sums, count = state or (0, 0)
        total = (sums + quantity, count + 1)
        return total, total

    def keep(item: tuple[str, tuple[int, int]]) -> None:
        found[item[0]] = item[1]

    flow = Dataflow("meter")
    source: Any = KafkaSource([orders.brokers], [orders.topic], tail=False, batch_size=_BATCH)
    events = op.map("decode", op.input("events", flow, source), decode)
    fresh = op.filter_map("fresh", op.stateful_map("first", events, first), lambda item: item[1])
    totals = op.stateful_map("add", op.map("place", fresh, place), add)
    op.inspect("keep", totals, lambda _, item: keep(item))
    return flow


def consume(orders: Orders) -> None:
    """Run the flow to the end of the topic with recovery on."""
    recovery = orders.folder / "recovery"
    recovery.mkdir()
    init_db_dir(recovery, orders.partitions)
    found: dict[str, tuple[int, int]] = {}
    flow = flow_of(orders, found)
    orders.wait_at_gate()
    cluster_main(
        flow,
        [],
        0,
        epoch_interval=timedelta(seconds=orders.commit_seconds),
        recovery_config=RecoveryConfig(str(recovery)),
    )
    orders.finish(found)


if __name__ == "__main__":
    consume(Orders())
