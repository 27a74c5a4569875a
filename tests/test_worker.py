"""What a worker makes of partitions that come and go, and of a process that stood still."""

import asyncio
from typing import Any, NoReturn

import pytest
from faust.types import TP

from metering import worker as module
from metering.settings import Settings
from metering.state import log_bounds
from metering.worker import FROZEN_SECONDS, Worker

HERE = TP("usage.events", 0)


class Died(Exception):
    """The process ended itself."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Worker:
    def die(event: str, **_: object) -> NoReturn:
        raise Died(event)

    monkeypatch.setattr(module, "die", die)
    return Worker(Settings(kafka_brokers="127.0.0.1:1", clickhouse_url="http://127.0.0.1:1"))


def owned(made: Worker) -> None:
    made._owned[HERE] = Any  # type: ignore[assignment]  # only that there is one


def test_a_process_that_stood_still_ends_itself(made: Worker) -> None:
    owned(made)
    made._awake -= FROZEN_SECONDS + 1
    with pytest.raises(Died, match="process_was_frozen"):
        made.stay_awake()


def test_loading_a_large_state_is_not_standing_still(made: Worker) -> None:
    owned(made)
    made._awake -= FROZEN_SECONDS + 1
    made._loading = 1
    made.stay_awake()
    made._loading = 0
    made.stay_awake()


def test_a_partition_that_was_given_away_while_it_was_loaded_has_no_start(
    made: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bounds(*_: object) -> log_bounds.Bounds:
        return log_bounds.Bounds(0, 0)

    monkeypatch.setattr(made.bounds, "of", bounds)
    assert asyncio.run(made._start_of(HERE)) is None
