"""What was lost is rebuilt from what remains, and the books have the same digest."""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from typer.testing import CliRunner

from metering.cli import app
from metering.demo.pipeline import environment
from metering.errors import UserError
from metering.invariants.arrival import arrival
from metering.recovery.books_digest import BooksDigest, books_digest
from metering.recovery.verify import Checked, verify
from metering.settings import Settings
from metering.settings import settings as chosen
from metering.sinks.client import connect
from metering.sinks.queries import Books
from metering.state import opening
from metering.state.fold import Entry
from metering.state.partitioning import partition_of
from metering.state.store import Store
from metering.topics import Names, apply
from tests.demo.world import put_in_force, resumed, running, send, wait_for
from tests.state.folding import CATALOG, START, event

PERIOD = time.strftime("%Y-%m", time.gmtime(START / 1000))
DEARER = CATALOG.replace('"0.10"', '"0.20"').replace(
    "customers:\n",
    "customers:\n  - {id: c, name: C, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}\n",
)
HISTORY = ("meter_state", "meter_segments", "rate_state")

pytestmark = pytest.mark.slow


def keyed(number: int, customer: str, **changes: Any) -> tuple[str, bytes]:
    return customer, event(number, customer, **changes)


def send_all(settings: Settings, records: list[tuple[str, bytes]]) -> None:
    for customer in sorted({customer for customer, _ in records}):
        send(settings, *(value for c, value in records if c == customer), key=customer.encode())


def closed(books: Books) -> bool:
    return sum(close.agrees for close in books.closes(PERIOD)) == 2


def digest_of(settings: Settings, period: str = "") -> BooksDigest:
    with connect(settings.clickhouse(), settings.database) as client:
        return books_digest(client, period)


def read(number: int) -> Any:
    return lambda books: books.counters().read == number


def settle(settings: Settings) -> None:
    """Wait until every fold and the sink stand at the ends of their logs."""
    assert asyncio.run(arrival(settings, 60)) == ""


def lose_local(settings: Settings) -> None:
    shutil.rmtree(settings.home / "state")


def lose_journal(settings: Settings) -> None:
    async def work() -> None:
        names = Names(settings)
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers())
        await admin.start()
        topics = {getattr(names, name) for name in HISTORY}
        await admin.delete_topics(sorted(topics))
        while topics & set(await admin.list_topics()):  # noqa: ASYNC110 - nobody can tell us
            await asyncio.sleep(0.1)
        await admin.close()
        await apply(settings)

    asyncio.run(work())


def verified(settings: Settings) -> dict[tuple[str, int], Checked]:
    return {(c.part.fold, c.part.partition): c for c in asyncio.run(verify(settings))}


def digests(settings: Settings) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Every digest that there is, after a check that no copy differs."""
    found = verified(settings)
    assert not [line for checked in found.values() for line in checked.differences]
    copies = {place: checked.journal or checked.local for place, checked in found.items()}
    return {place: (copy.offset, copy.digest) for place, copy in copies.items() if copy is not None}


@pytest.fixture(scope="module")
def deployed(real_broker: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A deployment that was stopped: a closed month, then another catalog, an open month, every outcome."""
    settings = real_broker.model_copy(
        update={
            "home": tmp_path_factory.mktemp("recovery"),
            "kafka_brokers": real_broker.brokers(),
            "clickhouse_url": real_broker.clickhouse(),
            "database": "recovery",
            "topic_prefix": "recovery.",
            "instance": "worker-1",
            "checkpoint_seconds": 0.2,
            "sink_batch_seconds": 0.2,
            "tick_idle_seconds": 86_400.0,
        }
    )
    with running(settings.model_copy(update={"tick_idle_seconds": 1.0}), CATALOG):
        noise = [("a", b"noise"), keyed(50, "nobody"), keyed(60, "c")]
        send_all(settings, [keyed(n % 9, "ab"[n % 2], n=200) for n in range(12)] + noise)
        wait_for(closed, settings)
    put_in_force(settings, DEARER)
    with resumed(settings):
        now = int(time.time() * 1_000)
        send_all(settings, [keyed(100 + n, "abc"[n % 3], n=n, time=now - 1_000 * n) for n in range(9)])
        late = keyed(200, "b", n=1)
        send_all(settings, [late, keyed(100, "a", n=0, time=now)])
        wait_for(read(12 + 3 + 9 + 2), settings)
        settle(settings)
    return settings


@pytest.fixture
def lost(deployed: Settings) -> Iterator[Settings]:
    """The deployment for a test that loses something; its states are put back."""
    kept = deployed.home / "kept"
    shutil.copytree(deployed.home / "state", kept)
    yield deployed
    shutil.rmtree(deployed.home / "state", ignore_errors=True)
    kept.rename(deployed.home / "state")


def metering(settings: Settings, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METERING_INSTANCE", settings.instance)
    monkeypatch.setenv("COLUMNS", "160")
    chosen.cache_clear()
    try:
        return CliRunner().invoke(app, list(words))
    finally:
        chosen.cache_clear()


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_folder_journal_and_log_agree(deployed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    result = metering(deployed, monkeypatch, "state", "verify", "--json")
    assert result.exit_code == 0, result.output
    found = [one for one in json.loads(result.output) if one["verdict"] != "no state"]
    assert {one["verdict"] for one in found} == {"agree"}
    assert {one["fold"] for one in found} == {"meter", "rate"}
    assert all(len(one["log"]) == 1 for one in found)


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_a_lost_folder_is_rebuilt_from_the_journal(lost: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests(lost)
    lose_local(lost)
    assert metering(lost, monkeypatch, "state", "rebuild", "--from", "journal").exit_code == 0
    assert digests(lost) == before
    assert {c.verdict for c in verified(lost).values()} <= {"agree", "no state"}


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_a_changed_state_is_found_and_put_right_from_the_log(
    lost: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(lost)
    topic, partition = Names(lost).events, partition_of("a", lost.partitions)
    place = opening.state_folder(lost, topic, partition), opening.identity(lost, topic, partition)
    store = Store(*place)
    saved = store.load()
    assert saved is not None
    entries = list(saved.entries)
    entries[0] = Entry(entries[0].key, entries[1].value, entries[0].version)
    store.replace(saved._replace(entries=entries, segments=list(saved.segments)))
    store.close()
    result = metering(lost, monkeypatch, "state", "verify", "--partition", str(partition))
    assert result.exit_code == 1
    assert "local and log: 1 entries with another value" in result.output
    words = ["state", "rebuild", "--from", "log", "--partition", str(partition)]
    assert metering(lost, monkeypatch, *words).exit_code == 0
    assert digests(lost) == before


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_folder_and_journal_lost_the_log_gives_the_same_states_under_the_catalogs_of_then(
    lost: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, books = digests(lost), digest_of(lost)
    lose_local(lost)
    lose_journal(lost)
    assert {c.verdict for c in verified(lost).values()} == {"no state"}
    result = metering(lost, monkeypatch, "state", "rebuild", "--from", "log")
    assert result.exit_code == 0, (result.output, result.exception)
    after = digests(lost)
    meters = {place for place in before if place[0] == "meter"}
    assert {place: after[place] for place in meters} == {place: before[place] for place in meters}
    with resumed(lost):
        settle(lost)
    assert digest_of(lost) == books
    assert {c.verdict for c in verified(lost).values()} <= {"agree", "no state"}


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_a_lost_journal_is_written_again_by_the_next_worker(lost: Settings) -> None:
    before = digests(lost)
    lose_journal(lost)
    with resumed(lost):
        settle(lost)
    lose_local(lost)
    found = verified(lost)
    assert {c.verdict for c in found.values()} <= {"agree", "no state"}
    assert {place: found[place].journal.digest for place in before} == {  # type: ignore[union-attr]
        place: digest for place, (_, digest) in before.items()
    }


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_a_worker_that_starts_from_nothing_does_not_decide_again_under_another_catalog(
    lost: Settings,
) -> None:
    lose_local(lost)
    lose_journal(lost)
    log = lost.home / "run" / "worker-1.log"
    log.write_text("")
    with resumed(lost):
        deadline = time.monotonic() + 60
        while "metering state rebuild --from log" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()[-2_000:]
            time.sleep(0.3)


@pytest.mark.parts
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("real_broker")
def test_a_worker_folds_the_log_again_and_the_archive_gives_the_same_books(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = deployment.model_copy(update={"instance": "worker-1", "tick_idle_seconds": 1.0})
    with running(own, CATALOG):
        send_all(own, [keyed(n % 9, "ab"[n % 2], n=200 + n % 9 / 4) for n in range(12)])
        wait_for(closed, own)
    own = own.model_copy(update={"tick_idle_seconds": 86_400.0})
    with resumed(own):
        settle(own)
    before = digest_of(own)
    lose_local(own)
    lose_journal(own)
    with resumed(own):
        settle(own)
    assert digest_of(own) == before
    assert {c.verdict for c in verified(own).values()} <= {"agree", "no state"}

    archive = own.home / "archive.jsonl"
    archive.write_bytes(metering(own, monkeypatch, "events", "export").stdout_bytes)
    assert archive.read_bytes().count(b"\n") == 12  # duplicates too
    new = {"topic_prefix": f"{own.topic_prefix}again.", "database": f"{own.database}_again"}
    again = own.model_copy(update={**new, "home": own.home / "again", "tick_idle_seconds": 1.0})
    with running(again, CATALOG):
        assert metering(again, monkeypatch, "send", str(archive)).exit_code == 0
        wait_for(closed, again)
    assert digest_of(again) == before


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_lost_books_are_read_again_from_kafka(deployed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest_of(deployed)
    result = metering(deployed, monkeypatch, "rebuild", "clickhouse", "--into", "recovered")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "the old database has the same digest" in result.output
    new = deployed.model_copy(update={"database": "recovered"})
    assert digest_of(new) == before
    with connect(new.clickhouse(), new.database) as client:
        assert client.query("SELECT count() FROM catalog FINAL").result_rows == [(2,)]
        client.command("ALTER TABLE charges DELETE WHERE price = 'calls' SETTINGS mutations_sync = 2")
    result = metering(new, monkeypatch, "rebuild", "clickhouse")
    assert isinstance(result.exception, UserError)  # it is there, and nobody said --yes
    result = metering(new, monkeypatch, "rebuild", "clickhouse", "--yes")
    assert result.exit_code == 1, result.output  # the old one has other charges
    assert digest_of(new) == before


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_an_archive_that_kafka_no_longer_has_is_not_dropped(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = TopicPartition(Names(deployed).events, partition_of("a", deployed.partitions))

    async def purge() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=deployed.brokers())
        await admin.start()
        await admin.delete_records({topic: RecordsToDelete(before_offset=2)})
        await admin.close()

    asyncio.run(purge())
    result = metering(deployed, monkeypatch, "rebuild", "clickhouse", "--yes")
    assert "that Kafka has deleted" in str(result.exception)
    result = metering(deployed, monkeypatch, "state", "verify", "--partition", str(topic.partition))
    assert "the log begins at 2" in result.output
    assert result.exit_code == 0
