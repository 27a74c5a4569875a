"""Fixtures: the real parts, started once a test session in a folder of their own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

# A process of pytest-xdist has them set, and a console that is made under them keeps them.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

from metering.local import parts  # noqa: E402 - it makes a console
from metering.settings import Settings  # noqa: E402
from metering.settings import settings as settings_of_process  # noqa: E402

# Machines are shared: how long an example takes says nothing about the code.
hypothesis_settings.register_profile("shared", deadline=None)
hypothesis_settings.load_profile("shared")

for variable in [v for v in os.environ if v.startswith(("METERING_", "KAFKA_", "CLICKHOUSE_"))]:
    if variable not in ("METERING_CACHE", "METERING_LOCAL_KAFKA"):
        del os.environ[variable]  # a developer's own deployment is not the tests'


@pytest.fixture(scope="session")
def local_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Kafka and ClickHouse on free ports; stopped by their ids at the end."""
    settings = Settings(home=tmp_path_factory.mktemp("parts"))
    parts.up(settings)
    yield settings
    parts.down(settings)


@pytest.fixture(scope="session")
def real_broker(local_parts: Settings) -> Settings:
    """The parts, for a test that makes or deletes topics: the simulated broker cannot."""
    if local_parts.is_simulated():
        pytest.skip("the simulated broker has no admin requests")
    return local_parts


@pytest.fixture
def deployment(local_parts: Settings, tmp_path: Path) -> Settings:
    """A deployment with topics, database and folder of its own on the shared parts."""
    name = "".join(c if c.isalnum() else "_" for c in tmp_path.name)
    return local_parts.model_copy(
        update={
            "kafka_brokers": local_parts.brokers(),
            "clickhouse_url": local_parts.clickhouse(),
            "home": tmp_path,
            "database": f"test_{name}",
            "topic_prefix": f"{name}.",
            "checkpoint_seconds": 0.2,
            "sink_batch_seconds": 0.2,
            "tick_idle_seconds": 86_400.0,
        }
    )


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    """A test that sets variables has them read; the next one does not see them."""
    settings_of_process.cache_clear()
    yield
    settings_of_process.cache_clear()
