"""The books of the demo, once a session, with what a demo has not: other months, currencies and names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards.generate import GENERATED, HERE
from dashboards.run import Json, load
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from tests.dashboards.folded import demo_rows, invoice_closes, write
from tests.dashboards.world import bill_and_limit, copy_tables, widen

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "llm"


@pytest.fixture(scope="session")
def boards() -> dict[str, Json]:
    """The committed dashboards by uid."""
    return {board["uid"]: board for board in load(HERE / GENERATED)}


@pytest.fixture(scope="session")
def demo(local_parts: Settings) -> Iterator[Any]:
    """The demo's books, made by the demo's folds from the demo's traffic."""
    migrate(local_parts.clickhouse(), "boards_demo")
    with connect(local_parts.clickhouse(), "boards_demo") as client:
        write(client, demo_rows(EXAMPLE))
        invoice_closes(client)
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
