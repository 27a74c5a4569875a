"""What one round of checks looks at: positions first, then the ends of the logs, then the books.

The order matters: a position that was read before the log's end cannot be beyond it by mistake.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

import msgspec

from metering.audit import Audit, run_audit
from metering.catalog.models import CatalogFile
from metering.catalog.resolved import Catalog, resolve
from metering.errors import UserError
from metering.invariants.seen import Seen
from metering.records import Progress
from metering.settings import Settings
from metering.sinks.client import LONG_ANSWER_SECONDS, connect
from metering.standing import Look, Standing, TopicPlace, look, standings
from metering.state.log_bounds import Bounds
from metering.topics import Names


class Reported(msgspec.Struct, frozen=True):
    """What the books hold of a partition's latest report."""

    offset: int
    watermark: int
    epoch: int
    read: int
    accepted: int
    duplicates: int
    rejected: int
    at: int


class Facts:
    """One look at a live deployment; close it."""

    def __init__(self, settings: Settings, seen: Seen, newest_periods: int = 0) -> None:
        self.settings = settings
        self.names = Names(settings)
        self.seen = seen
        self.now = time.time_ns() // 1_000_000
        self._newest_periods = newest_periods
        self._client: Any = None

    def close(self) -> None:
        """Release the connection."""
        if self._client is not None:
            self._client.close()

    # -- the books -------------------------------------------------------------------------------

    @cached_property
    def client(self) -> Any:
        """A connection to the books."""
        self._client = connect(
            self.settings.clickhouse(), self.settings.database, answer_seconds=LONG_ANSWER_SECONDS
        )
        return self._client

    def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query over the books."""
        return list(self.client.query(sql, parameters=parameters).result_rows)

    @cached_property
    def periods(self) -> list[str]:
        """The billing periods to check, newest first."""
        charged = self.rows("SELECT DISTINCT toString(period) FROM charges")
        used = self.rows("SELECT DISTINCT formatDateTime(hour, '%Y-%m') FROM hourly")
        names = sorted({name for (name,) in charged + used}, reverse=True)
        return names[: self._newest_periods] if self._newest_periods else names

    @cached_property
    def reported(self) -> dict[int, Reported]:
        """What each partition's meter fold has reported, as it is stored."""
        rows = self.rows(
            "SELECT partition, next_offset, toUnixTimestamp64Milli(watermark),"
            " toUInt32(bitShiftRight(version, 112)), read, accepted, duplicates, rejected,"
            " toUnixTimestamp64Milli(reported) FROM progress_current WHERE fold = 'meter' ORDER BY partition"
        )
        return {int(partition): Reported(*map(int, rest)) for partition, *rest in rows}

    @cached_property
    def stored(self) -> dict[TopicPlace, int]:
        """Where the sink stands in each partition."""
        rows = self.rows("SELECT k_topic, k_partition, next_offset FROM sink_progress_current")
        return {(topic, int(partition)): int(offset) for topic, partition, offset in rows}

    @cached_property
    def audits(self) -> list[Audit]:
        """The audit of the periods to check, made once a round."""
        wanted = self.periods if self._newest_periods else [""]  # all at once
        return [run_audit(self.client, period) for period in wanted]

    @cached_property
    def revisions(self) -> list[int]:
        """The catalog revisions that the books hold, oldest first."""
        return [
            int(revision) for (revision,) in self.rows("SELECT DISTINCT revision FROM catalog ORDER BY 1")
        ]

    def catalog(self, revision: int) -> Catalog:
        """A catalog revision of the books."""
        ((content,),) = self.rows(
            "SELECT content FROM catalog FINAL WHERE revision = {revision:UInt32}", revision=revision
        )
        return resolve(CatalogFile.model_validate_json(content), revision=revision)

    # -- Kafka -----------------------------------------------------------------------------------

    @cached_property
    def kafka(self) -> Look:
        """Bounds of the logs and the latest reports; asked after the positions in the books."""
        with suppress(UserError):  # without ClickHouse, checks that need only Kafka go on
            self.stored, self.reported  # noqa: B018 - positions first: read now, kept
        return look(self.settings)

    @property
    def bounds(self) -> Mapping[TopicPlace, Bounds]:
        """Where the log of each partition begins and ends."""
        return self.kafka.bounds

    @property
    def progress(self) -> Mapping[int, Progress]:
        """The latest report of each partition, straight from its topic."""
        return self.kafka.reports

    @property
    def standings(self) -> list[Standing]:
        """How each partition stands."""
        return standings(self.settings, self.kafka, self.now)
