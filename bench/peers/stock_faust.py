"""Stock Faust: an agent over single events, two RocksDB tables with changelogs; metered as its manual says.

Tuned: msgspec instead of its own models, a linger for the changelogs, a large stream buffer, no web
server, no debug logs. It commits past changelog writes that are not acknowledged yet.
"""

import os
import sys
from typing import Any

import faust
import msgspec

from bench.peers.contract import Orders, place_of

orders = Orders()
app = faust.App(
    orders.group,
    broker=f"kafka://{orders.brokers}",
    store="rocksdb://",
    topic_partitions=orders.partitions,
    topic_replication_factor=1,
    topic_disable_leader=True,
    broker_commit_interval=orders.commit_seconds,
    broker_commit_every=10**9,
    stream_buffer_maxsize=65_536,
    stream_wait_empty=False,
    producer_linger=0.05,
    producer_max_batch_size=1 << 20,
    producer_compression_type="lz4",
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
    worker_redirect_stdouts=False,
    datadir=str(orders.folder / "faust"),
)
events = app.topic(orders.topic, value_type=bytes, value_serializer="raw", key_serializer="raw")
# More bits than Faust's default of 3: a look-up of an id that is new stops at the filter.
_FILTER = {"bloom_filter_size": 10}


def _table(name: str) -> Any:
    return app.Table(
        name, key_type=bytes, value_type=bytes, partitions=orders.partitions, options=dict(_FILTER)
    )


seen, totals = _table("seen"), _table("totals")
_decode = msgspec.json.Decoder().decode


@app.agent(events)
async def meter(stream: Any) -> None:
    """Decode, deduplicate, add up by the hour."""
    taken = 0
    async for value in stream:
        event = _decode(value)
        customer, data = event["customer"], event["data"]
        identity = f"{customer}\0{event['source']}\0{event['id']}".encode()
        if seen.get(identity) is None:
            seen[identity] = b"1"
            place = place_of(customer, data["region"], event["time"]).encode()
            quantity, count = map(int, (totals.get(place) or b"0 0").split())
            totals[place] = b"%d %d" % (quantity + data["n"], count + 1)
        taken += 1
        if taken % 100 == 0 or taken == orders.records:
            orders.report(taken)
        if taken == orders.records:
            app.add_future(finish())


async def finish() -> None:
    """Wait until the changelogs and the position are with the broker, then hand over."""
    await app.producer.flush()
    await app.consumer.commit()
    found = {}
    for place, value in totals.items():
        quantity, count = map(int, value.split())
        found[place.decode()] = (quantity, count)
    orders.finish(found)


if __name__ == "__main__":
    orders.wait_at_gate()
    os.chdir(orders.folder)
    sys.argv = ["faust", "worker", "-l", "info", "--without-web"]
    app.main()
