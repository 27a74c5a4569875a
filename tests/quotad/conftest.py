"""One deployment for all tests of quotad: a worker, a sink, limits, and the service in front of them."""

from collections.abc import Iterator

import pytest

from metering.demo.pipeline import Pipeline
from metering.settings import Settings
from tests.demo.world import running
from tests.quotad.world import LIMITED, Service, quotad, until


@pytest.fixture(scope="module")
def deployed(
    local_parts: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Pipeline]]:
    own = local_parts.model_copy(
        update={
            "kafka_brokers": local_parts.brokers(),
            "clickhouse_url": local_parts.clickhouse(),
            "home": tmp_path_factory.mktemp("quotad"),
            "database": "test_quotad",
            "topic_prefix": "quotad.",
            "partitions": 2,
            "quota_lag_ms": 200,
            "checkpoint_seconds": 0.2,
        }
    )
    with running(own, LIMITED) as pipeline:
        yield own, pipeline


@pytest.fixture(scope="module")
def service(deployed: tuple[Settings, Pipeline]) -> Iterator[Service]:
    with quotad(deployed[0]) as found:
        until(lambda: found.status() == "ready")
        check = {"customer": "customer-c", "meter": "tokens"}
        until(lambda: found.ask("/v1/check", **check)["reason"] == "ok")
        yield found
