"""Bad input through the whole pipeline: a dead letter each, never a crash, never silence."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metering.catalog.load import CatalogError, load_folder
from metering.catalog.reader import read_latest
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.queries import Books
from metering.topics import Names, apply
from tests.demo.world import put_in_force, running, send, set_up, wait_for
from tests.state.folding import CATALOG, START, event

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parts
@pytest.mark.timeout(180)
def test_every_bad_record_becomes_a_dead_letter_and_metering_goes_on(deployment: Settings) -> None:
    with running(deployment, CATALOG) as pipeline:
        noise = os.urandom(5 << 20)
        many = json.dumps([json.loads(event(n)) for n in range(10_000)]).encode()
        bad = [b"{", b'{"id":"\xff"}', noise, many, event(1, customer="nobody"), event(2, type="x")]
        bad += [event(3, n=-1), event(4, n=10**30), event(5, time="2100-01-01T00:00:00Z"), b"5"]
        envelope = b"[" + b",".join([event(10), event(11, n="x"), event(12)]) + b"]"
        send(deployment, *bad, envelope, event(20))
        wait_for(lambda books: books.counters().read == len(bad) + 4, deployment)
        wait_for(lambda books: sum(books.rejected_by_reason().values()) == len(bad) + 1, deployment)
        with connect(deployment.clickhouse(), deployment.database) as client:
            assert Books(client).counters().accepted == 3
            longest = client.query("SELECT max(length(payload)) FROM rejected_current").result_rows
            assert longest[0][0] == len(noise)
    assert pipeline.restarts == {}


@pytest.mark.parts
@pytest.mark.timeout(180)
def test_a_new_catalog_revision_rates_an_open_period_again_while_running(deployment: Settings) -> None:
    period = time.strftime("%Y-%m", time.gmtime(START / 1000))

    def charged(amount: str) -> Callable[[Books], bool]:
        return lambda books: str(books.charged(period).get("a")) == amount

    with running(deployment, CATALOG):
        send(deployment, event(1, n=10))
        wait_for(charged("1.000001"), deployment)
        put_in_force(deployment, CATALOG.replace('"0.10"', '"0.20"'))
        wait_for(charged("2.000001"), deployment)


def test_a_broken_catalog_is_refused_and_the_running_one_stays(deployment: Settings) -> None:
    set_up(deployment, CATALOG)
    with pytest.raises(CatalogError):
        put_in_force(deployment, CATALOG.replace("rate_card: card", "rate_card: nope"))
    latest = asyncio.run(read_latest(deployment.brokers(), Names(deployment).catalog))
    assert latest is not None
    assert latest.revision == 1


def test_publishing_the_same_catalog_again_makes_no_revision(deployment: Settings) -> None:
    set_up(deployment, CATALOG)
    put_in_force(deployment, CATALOG)
    latest: Any = asyncio.run(read_latest(deployment.brokers(), Names(deployment).catalog))
    assert latest.revision == 1


def test_applying_topics_twice_changes_nothing(deployment: Settings) -> None:
    asyncio.run(apply(deployment))
    assert {state.action for state in asyncio.run(apply(deployment))} == {"unchanged"}


def test_a_topic_with_another_number_of_partitions_is_shown(deployment: Settings) -> None:
    asyncio.run(apply(deployment.model_copy(update={"partitions": 2})))
    shown = asyncio.run(apply(deployment, dry_run=True))
    differing = [s for s in shown if s.differences]
    assert {s.differences["partitions"] for s in differing} == {("2", "4")}


def test_the_example_is_in_the_repository() -> None:
    assert load_folder(ROOT / "examples" / "llm" / "catalog").version
