"""From an event to its charge row in ClickHouse while a steady load runs through everything."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import islice

from confluent_kafka import Producer

from bench.load import METER, START_MS, Expected, Load, Record
from bench.machine import calibrate, usage_of
from bench.measuring import follow, judge, put_in_force, spent
from bench.options import Options
from bench.place import World, send
from bench.results import Found
from bench.verify import verify
from bench.worker import ASSIGNED, running
from metering.errors import UserError
from metering.settings import Settings
from metering.sinks.client import connect
from metering.state.partitioning import partition_of
from metering.topics import Names

_PROBES_A_SECOND = 4
_TICK_SECONDS = 0.05
_LOOK_SECONDS = 0.1
_START_SECONDS, _LAST_SECONDS = 90.0, 60.0


class Probes:
    """Customers of one event each: when it was sent, and when its charge could first be read."""

    def __init__(self, deployment: Settings, count: int) -> None:
        self._deployment = deployment
        self.names = [f"probe-{n:05d}" for n in range(count)]
        self.sent: dict[str, float] = {}
        self.seen: dict[str, float] = {}
        self.first = ""  # it waits for the start, and is no measurement
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def catalog(self) -> str:
        """The probes as customers of the catalog."""
        return "".join(
            f"  - {{id: {n}, name: P, plan: plan, currency: USD, start: 2025-01-01T00:00:00Z}}\n"
            for n in self.names
        )

    def record(self, name: str) -> Record:
        """The event of a probe; it is sent at once."""
        self.sent[name] = time.time()
        event = {"id": name, "customer": name, "source": "probe", "type": "use", "time": START_MS}
        body = json.dumps({**event, "data": {"n": 1, "region": "eu"}}).encode()
        return Record(partition_of(name, self._deployment.partitions), name.encode(), body)

    def begin(self) -> None:
        """Look for charges from now on."""
        self._thread.start()

    def go_ahead(self, brokers: str, topic: str) -> None:
        """Send the first probe and wait for its charge: from here on everything is running."""
        first = self.record(self.names.pop(0))
        send(brokers, topic, [first], "lz4")
        deadline = time.monotonic() + _START_SECONDS
        while not self.seen:
            if time.monotonic() > deadline:
                raise UserError("the first event was not charged in time", hint="see the logs of the sink")
            time.sleep(_LOOK_SECONDS)
        self.first = first.key.decode()

    def end(self) -> None:
        """Wait for the last ones, for a while."""
        deadline = time.monotonic() + _LAST_SECONDS
        while len(self.seen) < len(self.sent) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        self._over.set()
        self._thread.join(_LAST_SECONDS)

    def _look(self) -> None:
        own = self._deployment
        with connect(own.clickhouse(), own.database) as client:
            while not self._over.wait(_LOOK_SECONDS):
                rows = client.query(
                    "SELECT DISTINCT customer FROM charges WHERE customer LIKE 'probe-%'"
                ).result_rows
                now = time.time()
                for (name,) in rows:
                    self.seen.setdefault(name, now)

    def latencies(self) -> list[float]:
        """Seconds from sending to reading, sorted."""
        return sorted(self.seen[n] - at for n, at in self.sent.items() if n in self.seen and n != self.first)


def latency(world: World, options: Options) -> Iterator[Found]:
    """A steady rate for some time, worker and sink running."""
    load = options.loaded(events=options.rate * options.seconds)
    deployment, expected = world.deployment(load.partitions, database=True), Expected()
    probes = Probes(deployment, options.seconds * _PROBES_A_SECOND + 1)
    with running(deployment, "worker-1", "sink-1") as (worker, sink):
        put_in_force(deployment, load.customers, probes.catalog())
        worker.wait_until_said(ASSIGNED, _START_SECONDS)
        probes.begin()
        probes.go_ahead(world.brokers, Names(deployment).events)
        before, began = calibrate(), [worker.usage(), sink.usage()]
        clickhouse, broker = usage_of(world.clickhouse_pid), usage_of(world.broker_pid)
        seconds = _pace(world.brokers, Names(deployment).events, load, expected, probes, options.rate)
        probes.end()
        follow(deployment, [worker], expected.records + len(probes.sent))
        ended = [worker.usage(), sink.usage()]
        found = Found(
            f"latency at {options.rate:,} events/s",
            expected.read,
            seconds,
            spent(began[:1], ended[:1]) / expected.read * 1e6,
            (usage_of(world.broker_pid).cpu - broker.cpu) / expected.read * 1e6,
            rss=ended[0].peak,
            before=before,
            after=calibrate(),
            settings={**load.plain(), "rate": options.rate},
        )
        found.parts["sink_cpu"] = spent(began[1:], ended[1:]) / expected.read * 1e6
        found.parts["clickhouse_cpu"] = (
            (usage_of(world.clickhouse_pid).cpu - clickhouse.cpu) / expected.read * 1e6
        )
        time.sleep(2.0)  # counters are reported each second
    _take(found, probes)
    for name in probes.sent:
        expected.totals[name, "eu", START_MS // 1_000] = [1, 1]
    expected.read += len(probes.sent)
    expected.accepted += len(probes.sent)
    yield judge(found, verify(deployment, expected))


def _take(found: Found, probes: Probes) -> None:
    latencies = probes.latencies()
    found.series["latencies"] = [round(seconds, 3) for seconds in latencies]
    found.parts["probes"] = len(probes.sent)
    found.parts["unseen"] = len(probes.sent) - 1 - len(latencies)
    for percent in (50, 90, 99):
        if latencies:
            found.parts[f"p{percent}"] = latencies[min(len(latencies) - 1, len(latencies) * percent // 100)]


def _pace(brokers: str, topic: str, load: Load, expected: Expected, probes: Probes, rate: int) -> float:
    """Send the load at its rate with the probes in between; the seconds that it took."""
    producer = Producer({"bootstrap.servers": brokers, "compression.type": load.codec, "linger.ms": 5})
    records, names = load.records(expected), iter(probes.names)
    began, sent, probed = time.monotonic(), 0, 0
    while True:
        due = int((time.monotonic() - began) * rate) - sent
        found = list(islice(records, due))
        for record in found:
            producer.produce(topic, record.value, record.key, record.partition)
        sent += len(found)
        if due and not found:
            break
        if (time.monotonic() - began) * _PROBES_A_SECOND > probed:
            name = next(names, None)
            if name is not None:
                probe = probes.record(name)
                producer.produce(topic, probe.value, probe.key, probe.partition)
            probed += 1
        producer.poll(_TICK_SECONDS)
    assert producer.flush(_LAST_SECONDS) == 0, f"the load did not reach {METER} in time"
    return time.monotonic() - began
