"""quixstreams: one stateful update an event, RocksDB state with a changelog topic, at least once."""

from typing import Any

import msgspec
from quixstreams import Application, State

from bench.peers.contract import Orders, place_of

_decode = msgspec.json.Decoder().decode


def consume(orders: Orders) -> None:
    """Decode, deduplicate, add up by the hour; the state of a customer holds its ids and its totals."""
    app = Application(
        broker_address=orders.brokers,
        consumer_group=orders.group,
        auto_offset_reset="earliest",
        commit_interval=orders.commit_seconds,
        state_dir=str(orders.folder / "state"),
        processing_guarantee="at-least-once",
        producer_extra_config={"compression.type": "lz4", "linger.ms": 20},
        loglevel="WARNING",
    )
    topic = app.topic(orders.topic, key_deserializer="bytes", value_deserializer="bytes")
    found: dict[str, tuple[int, int]] = {}
    taken = 0

    def meter(value: bytes, state: State) -> None:
        nonlocal taken
        event: dict[str, Any] = _decode(value)
        taken += 1
        if taken % 100 == 0:
            orders.report(taken)
        if not state.exists(identity := f"{event['source']}\0{event['id']}"):
            state.set(identity, 1)
            data = event["data"]
            place = place_of(event["customer"], data["region"], event["time"])
            quantity, count = state.get(place, (0, 0))
            found[place] = (quantity + data["n"], count + 1)
            state.set(place, found[place])
        if taken == orders.records:
            app.stop()

    frame = app.dataframe(topic)
    frame.update(meter, stateful=True)
    orders.wait_at_gate()
    app.run()  # its end is a checkpoint
    orders.finish(found)


if __name__ == "__main__":
    consume(Orders())
