"""The books of the demo, once a session, with what a demo has not: other months, currencies and names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards.generate import GENERATED, HERE
from dashboards.run import Json, load
from metering.demo.run import DATABASE, run_demo
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from tests.dashboards.world import bill_and_limit, copy_tables, widen

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def boards() -> dict[str, Json]:
    """The committed dashboards by uid."""
    return {board["uid"]: board for board in load(HERE / GENERATED)}


@pytest.fixture(scope="session")
def demo(local_parts: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The demo's books in a database that no later demo drops."""
    own = local_parts.model_copy(
        update={
            "home": tmp_path_factory.mktemp("boards"),
            "kafka_brokers": local_parts.brokers(),
            "clickhouse_url": local_parts.clickhouse(),
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert run_demo(own) == 0
    migrate(own.clickhouse(), "boards_demo")
    with connect(own.clickhouse(), "boards_demo") as client:
        copy_tables(client, DATABASE, "boards_demo")
        yield client


@pytest.fixture(scope="session")
def books(local_parts: Settings, demo: Any) -> Iterator[Any]:
    """The demo's books, and two months before them, a second currency, awkward names."""
    migrate(local_parts.clickhouse(), "boards_wide")
    with connect(local_parts.clickhouse(), "boards_wide") as client:
        copy_tables(client, "boards_demo", "boards_wide")
        widen(client)
        bill_and_limit(client)
        yield client


@pytest.fixture(scope="session")
def empty(local_parts: Settings) -> Iterator[Any]:
    """A database of a deployment that has seen nothing."""
    migrate(local_parts.clickhouse(), "boards_empty")
    with connect(local_parts.clickhouse(), "boards_empty") as client:
        yield client
