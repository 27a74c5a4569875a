"""A worker that must not start, or cannot go on, says why and what to do; the books stay right."""

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from metering.demo.pipeline import environment
from metering.ending import EXIT_CRASH
from metering.errors import UserError
from metering.invariants.arrival import arrival
from metering.recovery.verify import verify
from metering.settings import Settings
from metering.sinks.client import connect
from metering.state import opening
from metering.state.partitioning import partition_of
from metering.state.store import DISK_HINT, SHARED_HINT
from metering.topics import Names
from tests.demo.world import resumed, running, send, wait_for
from tests.state.folding import CATALOG, event

pytestmark = pytest.mark.slow


def start(settings: Settings) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "metering", "worker"]
    variables = {**os.environ, **environment(settings), "METERING_INSTANCE": settings.instance}
    return subprocess.Popen(words, env=variables, stderr=subprocess.PIPE, text=True)


def end_of(worker: "subprocess.Popen[str]") -> tuple[int, str]:
    """How a worker ends by itself, and what it says."""
    try:
        _, said = worker.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        worker.kill()
        raise
    return worker.returncode, " ".join(said.split())  # a terminal breaks lines


def refused(settings: Settings, because: str) -> tuple[int, str]:
    """How a worker ends for a reason; a slow broker is another one, and it is started again."""
    code, said = end_of(start(settings))
    for _ in range(3):
        if because in said:
            break
        code, said = end_of(start(settings))
    assert because in said, said
    return code, said


@contextmanager
def no_file_may_grow(worker: "subprocess.Popen[str]") -> Iterator[None]:
    """A full disk, for one process."""
    hard = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        if worker.poll() is None:
            worker.kill()


def wait_until_it_works(worker: "subprocess.Popen[str]") -> None:
    assert worker.stderr is not None
    assert any("partitions_assigned" in line and "usage.events-0" in line for line in worker.stderr)


def counted(settings: Settings) -> list[tuple[object, ...]]:
    with connect(settings.clickhouse(), settings.database) as client:
        sql = (
            "SELECT customer, meter, sum(quantity), sum(events) FROM hourly_current GROUP BY 1, 2 ORDER BY 2"
        )
        return list(client.query(sql).result_rows)


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_a_second_worker_on_the_folders_and_a_full_disk(deployment: Settings) -> None:
    own = deployment.model_copy(update={"instance": "worker-1"})
    with running(own, CATALOG):
        send(own, *(event(n, n=1) for n in range(20)))
        wait_for(lambda books: books.counters().read == 20, own)
        code, said = refused(own, "another process holds the state folder")
        assert code == 2
        assert SHARED_HINT.partition(":")[2] in said
        with pytest.raises(UserError, match="holds the state folder"):
            asyncio.run(verify(own))
        send(own, *(event(n, n=1) for n in range(20, 30)))  # the first one goes on
        wait_for(lambda books: books.counters().read == 30, own)
    worker = start(own)
    wait_until_it_works(worker)
    with no_file_may_grow(worker):
        send(own, *(event(n, n=1) for n in range(30, 60)))
        code, said = end_of(worker)
    assert (code, "cannot be" in said) == (EXIT_CRASH, True), said
    assert DISK_HINT in said
    with resumed(own):
        assert asyncio.run(arrival(own, 60)) == ""
    assert counted(own) == [("a", "calls", 60, 60), ("a", "tokens", 60, 60)]
    assert {one.verdict for one in asyncio.run(verify(own))} <= {"agree", "no state"}


@pytest.mark.parts
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("real_broker")
def test_a_folder_of_another_topic_and_another_number_of_partitions(deployment: Settings) -> None:
    own = deployment.model_copy(update={"instance": "worker-1"})
    names, home = Names(own), partition_of("a", own.partitions)
    with running(own, CATALOG):
        send(own, *(event(n, n=1) for n in range(20)))
        wait_for(lambda books: books.counters().read == 20, own)
    folder = opening.state_folder(own, names.events, home)
    other = opening.state_folder(own, names.events, (home + 1) % own.partitions)
    other.rename(other.with_name("kept"))
    shutil.copytree(folder, other)
    code, said = refused(own, f"belongs to {names.events}, partition {home} of 4, epoch 1")
    assert code == EXIT_CRASH
    assert "move the folder away" in said
    shutil.rmtree(other)
    other.with_name("kept").rename(other)

    eight = own.model_copy(update={"partitions": 8})
    assert refused(eight, "has 4 partitions, METERING_PARTITIONS says 8")[0] == EXIT_CRASH
    asyncio.run(make_partitions(own, 8))
    for lost in (False, True):
        if lost:  # then the journal knows
            shutil.rmtree(own.home / "state")
        code, said = refused(eight, "is of 4 partitions" if lost else "of 4, epoch 1")
        assert code == EXIT_CRASH
        assert "customers are placed by the number of partitions" in said
    assert counted(own) == [("a", "calls", 20, 20), ("a", "tokens", 20, 20)]


async def make_partitions(settings: Settings, count: int) -> None:
    """What nobody should do."""
    names = Names(settings)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers())
    await admin.start()
    try:
        topics = (names.events, names.hourly, names.meter_state, names.meter_segments, names.rate_state)
        await admin.create_partitions({topic: NewPartitions(count) for topic in topics})
        await asyncio.sleep(1)
    finally:
        await admin.close()
