"""A deployment moves to more partitions: nothing is lost, nothing counts twice, and the books agree."""

import asyncio
from collections.abc import Iterable

import pytest

from metering.audit import run_audit
from metering.demo.pipeline import Pipeline
from metering.epochs import latest_epoch, refuse_lost_state, refuse_other_epoch
from metering.errors import UserError
from metering.grow import Growth, _Work, grow
from metering.producer import UsageProducer
from metering.recovery.verify import verify
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.queries import Books
from metering.state.partitioning import partition_of
from metering.topics import Names
from tests.demo.world import resumed, running, wait_for
from tests.state.folding import CATALOG, event

CUSTOMERS = [f"c{n}" for n in range(12)]
TEXT = CATALOG + "".join(
    f"  - {{id: {c}, name: {c}, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}}\n" for c in CUSTOMERS
)


class Crash(Exception):
    """The process dies here."""


def usage(numbers: Iterable[int]) -> list[tuple[bytes, bytes]]:
    customers = [(n, CUSTOMERS[n % len(CUSTOMERS)]) for n in numbers]
    return [(c.encode(), event(n, c, hour=n % 5, n=n)) for n, c in customers]


def send_all(settings: Settings, records: list[tuple[bytes, bytes]], partitions: int | None = None) -> None:
    """As a producer that knows of some partitions does."""

    async def work() -> None:
        async with UsageProducer(settings.brokers(), Names(settings).events) as producer:
            for key, value in records:
                partition = None if partitions is None else partition_of(key.decode(), partitions)
                await producer._producer.send_and_wait(  # type: ignore[attr-defined]  # an old one's view
                    Names(settings).events, value, key=key, partition=partition
                )

    asyncio.run(work())


def moved(settings: Settings, partitions: int) -> Growth:
    return asyncio.run(grow(settings, partitions, 0.0, print))


def refused(settings: Settings) -> str:
    with pytest.raises(UserError) as caught:
        refuse_other_epoch(settings, asyncio.run(latest_epoch(settings)))
    return str(caught.value)


@pytest.mark.parts
@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_deployment_grows_while_producers_go_on(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = deployment.model_copy(update={"partitions": 2})
    with running(old, TEXT) as pipeline:
        send_all(old, usage(range(60)))
        wait_for(lambda books: books.counters().accepted == 60, old)
        with pytest.raises(UserError, match="workers run"):
            moved(old, 4)
        assert refusals_of_a_start(old, pipeline) == ""
    send_all(old, usage(range(50, 90)))  # nobody reads

    real, calls = _Work._cut_parent, []

    async def dies_at_the_second(self: _Work, *args: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise Crash
        await real(self, *args)  # type: ignore[arg-type]  # as they came

    with monkeypatch.context() as patch:
        patch.setattr(_Work, "_cut_parent", dies_at_the_second)
        with pytest.raises(Crash):
            moved(old, 4)
    assert "not complete" in refused(old)
    with pytest.raises(UserError, match="was begun"):
        moved(old, 8)
    send_all(old, usage(range(90, 100)))  # producers know four partitions by now
    new = moved(old, 4).new
    assert (new.epoch, new.partitions) == (2, 4)
    assert "in epoch 2" in refused(old)
    assert moved(old, 4).new == new  # again: nothing is left to do

    stale = [
        r for r in usage(range(100, 112)) if partition_of(r[0].decode(), 4) != partition_of(r[0].decode(), 2)
    ]
    send_all(new, stale, partitions=2)
    with resumed(new):
        send_all(new, usage(range(120)))  # all of it once more
        wait_for(lambda books: books.counters().accepted == 120, new)
        wait_for(lambda books: books.counters().rejected == len(stale) > 0, new)
        wait_for(lambda _: charged(new) == (120, sum(range(120))), new)
    with connect(new.clickhouse(), new.database) as client:
        assert Books(client).counters().duplicates == 110
        audit = run_audit(client)
    assert not audit.differences
    assert audit.charges > 0
    latest = asyncio.run(latest_epoch(new))
    topic = Names(new).events
    with pytest.raises(UserError, match="folder and journal of its state are lost"):
        refuse_lost_state(new, latest, topic, partition_of("c0", 4))
    refuse_lost_state(old, latest, topic, partition_of("c0", 4))  # another epoch: nothing is said of it
    (checked, *_) = asyncio.run(verify(new, partition_of("c0", 4)))
    assert "moved here with epoch 2" in checked.no_log


def refusals_of_a_start(settings: Settings, pipeline: Pipeline) -> str:
    """What stands in the way of a worker; nothing as long as no move was begun."""
    assert pipeline.pids()
    try:
        refuse_other_epoch(settings, asyncio.run(latest_epoch(settings)))
    except UserError as error:
        return str(error)
    return ""


def charged(settings: Settings) -> tuple[int, int]:
    """The calls and the tokens of all charges."""
    with connect(settings.clickhouse(), settings.database) as client:
        found = client.query("SELECT price, toInt64(sum(quantity)) FROM charges_current GROUP BY price")
        quantities = dict(found.result_rows)
    return quantities.get("calls", 0), quantities.get("tokens", 0)


@pytest.mark.parts
@pytest.mark.parametrize("partitions", [6, 4, 2])
def test_customers_must_move_from_one_partition_each(deployment: Settings, partitions: int) -> None:
    with pytest.raises(UserError, match="no multiple of the 4") as caught:
        moved(deployment, partitions)
    assert "choose 8 or 12" in caught.value.hint
