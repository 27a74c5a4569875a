"""Settings: one frozen object, read from environment variables, every field documented."""

import json
import socket
from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from metering.errors import UserError

SIMULATED = "simulated broker"


class Settings(BaseSettings):
    """What a deployment can choose; names are `METERING_<FIELD>` unless the field says otherwise."""

    model_config = SettingsConfigDict(env_prefix="METERING_", frozen=True, populate_by_name=True)

    home: Path = Field(
        default=Path(".metering"),
        description="Folder of the local parts and of the workers' state.",
    )
    kafka_brokers: str = Field(
        default="",
        validation_alias="KAFKA_BROKERS",
        description="Kafka bootstrap servers, host:port separated by commas; empty: the local part.",
    )
    kafka_simulated: bool = Field(
        default=False,
        description="The broker is the simulated one, without topic settings; the local parts set it.",
    )
    clickhouse_url: str = Field(
        default="",
        validation_alias="CLICKHOUSE_URL",
        description="ClickHouse HTTP address, http://user:password@host:port; empty: the local part.",
    )
    database: str = Field(default="metering", description="ClickHouse database of the books.")
    topic_prefix: str = Field(
        default="", description="Put before every topic and consumer group name, e.g. `staging.`."
    )
    partitions: int = Field(
        default=4,
        ge=1,
        description="Partitions of `usage.events` and of the topics that follow it.",
    )
    replication_factor: int = Field(default=1, ge=1, description="Copies of each Kafka partition.")
    epoch: int = Field(
        default=1,
        ge=1,
        description="Raised when a topic is rebuilt or gets more partitions; part of each version.",
    )
    instance: str = Field(
        default_factory=socket.gethostname,
        description="Name of this worker: its state folder and its static membership in the group.",
    )
    checkpoint_seconds: float = Field(
        default=1.0, gt=0, description="Seconds between two checkpoints of a fold."
    )
    quota_push_seconds: float = Field(
        default=0.2,
        gt=0,
        description="Counters of quotas are published at least so often; decisions and replies at once.",
    )
    quota_lag_ms: int = Field(
        default=1_000,
        ge=0,
        description="How long a quota's state takes to its readers at most; equal on every worker.",
    )
    tick_idle_seconds: float = Field(
        default=30.0,
        gt=0,
        description="An idle partition gets a tick record after this many seconds without input.",
    )
    close_grace_hours: int = Field(
        default=24,
        ge=0,
        description="A billing period closes when the watermark is this many hours past its end.",
    )
    memory_ids: int = Field(
        default=1_000_000,
        ge=1_000,
        description="Ids of a partition kept in memory (about 20 bytes each); older ones are on disk.",
    )
    compiled: bool = Field(
        default=True,
        description="Read events with the compiled scanner where it was built; results are the same.",
    )
    max_future_seconds: int = Field(
        default=300,
        ge=0,
        description="An event further ahead of the broker's append time than this is rejected.",
    )
    sink_batch_rows: int = Field(
        default=50_000,
        ge=1,
        description="A sink inserts when it holds this many rows of the archive, or of results.",
    )
    sink_batch_seconds: float = Field(
        default=1.0,
        gt=0,
        description="A sink inserts at least this often while it holds rows, results five times as often.",
    )
    web_host: str = Field(
        default="127.0.0.1",
        description="Address of `metering web`; it has no log-in: beyond loopback, put a proxy before it.",
    )
    web_port: int = Field(default=8900, ge=0, le=65_535, description="Port of `metering web`; 0: a free one.")
    watch_url: str = Field(
        default="http://127.0.0.1:9464/metrics",
        description="Where `metering web` reads what `metering watch` found.",
    )
    notify_file: Path | None = Field(
        default=None, description="YAML file that says who is told of what: docs/notifications.md."
    )
    pdf_fonts: str = Field(
        default="",
        description="More fonts of PDF bills, e.g. for Chinese: TrueType or OpenType files separated by `:`.",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Port of `/metrics` of this worker, sink or billing sync, and of `/health/…`; 0: none.",
    )
    metrics_bind: str = Field(
        default="127.0.0.1",
        description="Address of that port; in a container `0.0.0.0`. It shows no customer and no event.",
    )
    trace_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the customers' hours that are followed by OpenTelemetry traces; 0: none.",
    )
    ledger_url: str = Field(
        default="",
        description="Ledger of billing sync: a SQLite file in METERING_HOME, or `postgresql://...`.",
    )
    billing_file: Path | None = Field(
        default=None, description="YAML file that says how to bill; without it everything is invoiced."
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    def brokers(self) -> str:
        """Kafka bootstrap servers, from KAFKA_BROKERS or from the running local part."""
        return self.kafka_brokers or self._local_part("kafka", "KAFKA_BROKERS")

    def clickhouse(self) -> str:
        """ClickHouse HTTP address, from CLICKHOUSE_URL or from the running local part."""
        return self.clickhouse_url or self._local_part("clickhouse", "CLICKHOUSE_URL")

    def topic(self, name: str) -> str:
        """The full name of a topic or consumer group of this deployment."""
        return self.topic_prefix + name

    def is_simulated(self) -> bool:
        """Whether the broker is the simulated local part."""
        known = self._endpoints() if not self.kafka_brokers else {}
        return self.kafka_simulated or SIMULATED in str(known.get("kafka_kind", ""))

    def fonts(self) -> list[Path]:
        """The fonts of METERING_PDF_FONTS."""
        return [Path(name) for name in self.pdf_fonts.split(":") if name]

    @property
    def endpoints_file(self) -> Path:
        """Where `metering local up` writes the addresses of the parts it started."""
        return self.home / "local" / "endpoints.json"

    def _local_part(self, part: str, variable: str) -> str:
        endpoints = self._endpoints()
        if part not in endpoints:
            raise UserError(
                f"no {part} is known: {variable} is not set and no local part runs in {self.home}",
                hint=f"run `metering local up`, or set {variable}",
            )
        return str(endpoints[part])

    def _endpoints(self) -> dict[str, object]:
        try:
            return dict(json.loads(self.endpoints_file.read_text()))
        except FileNotFoundError:
            return {}


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process."""
    return Settings()
