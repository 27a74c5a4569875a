"""Which catalog was in force for which part of a log, read back from what was published then.

Outputs carry the revision that they were made under, so they say how far each revision was in force.
Between two of them, the time at which a revision was published decides.
"""

import json
from bisect import bisect_right
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from metering.catalog.models import CatalogFile
from metering.catalog.resolved import Catalog, resolve
from metering.catalog.wire import from_record
from metering.errors import UserError
from metering.settings import Settings
from metering.sinks.client import connect
from metering.stopping import stop
from metering.topics import Names

_ENDLESS = 1 << 62


class Unavailable(Exception):
    """Something that a rebuild needs is gone; the text says what."""


class Published(NamedTuple):
    """A revision as it was found: on its topic with its time (epoch ms), or in the books."""

    value: bytes
    at: int | None


class Catalogs:
    """Every revision that can still be found; resolved when it is asked for."""

    def __init__(self, found: dict[int, Published]) -> None:
        self._found = found
        self._resolved: dict[int, Catalog] = {}

    @property
    def revisions(self) -> list[int]:
        """All revisions, oldest first."""
        return sorted(self._found)

    def times(self) -> list[tuple[int, int]]:
        """When each revision was published (epoch ms), where that is known."""
        return [(p.at, revision) for revision, p in sorted(self._found.items()) if p.at is not None]

    def of(self, revision: int) -> Catalog:
        """The catalog of a revision; Unavailable when it is gone."""
        if revision not in self._found:
            raise Unavailable(f"catalog revision {revision} is no longer on its topic nor in the books")
        if revision not in self._resolved:
            found = self._found[revision]
            read = _of_books if found.at is None else _of_topic
            try:
                self._resolved[revision] = read(found.value, revision)
            except (ValueError, KeyError, TypeError) as error:
                raise Unavailable(f"catalog revision {revision} cannot be read: {error}") from error
        return self._resolved[revision]


def _of_topic(value: bytes, revision: int) -> Catalog:
    return from_record(value, revision - 1)


def _of_books(content: bytes, revision: int) -> Catalog:
    return resolve(CatalogFile.model_validate(json.loads(content)), revision=revision)


async def every_catalog(settings: Settings) -> dict[int, Published]:
    """Every revision that is on its topic or, should the topic have lost it, in the books."""
    return {**_in_books(settings), **await _on_topic(settings.brokers(), Names(settings).catalog)}


def _in_books(settings: Settings) -> dict[int, Published]:
    try:
        with connect(settings.clickhouse(), settings.database) as client:
            rows = client.query("SELECT revision, content FROM catalog").result_rows
    except Exception:  # whatever is wrong with ClickHouse: the topic has the later revisions
        return {}
    return {int(revision): Published(content.encode(), None) for revision, content in rows}


async def _on_topic(brokers: str, topic: str) -> dict[int, Published]:
    tp = TopicPartition(topic, 0)
    found: dict[int, Published] = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest")
    try:
        await consumer.start()
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                if record.value is not None:
                    found[record.offset + 1] = Published(record.value, record.timestamp)
    except (KafkaError, OSError) as error:
        raise UserError(
            f"the catalog topic {topic} cannot be read: {error!r}",
            hint="is the broker running (`metering local status`), and were the topics applied?",
        ) from error
    finally:
        await stop(consumer)
    return found


class Schedule:
    """The revision in force at each place of a log."""

    def __init__(self, published: list[tuple[int, int]]) -> None:
        self._published = sorted(published)
        self._spans: dict[int, tuple[int, int]] = {}  # revision → first and last record known to be under it

    def note(self, offset: int, revision: int) -> None:
        """Take in that the record at `offset` was folded under a revision.

        What was written later counts: where a fold began anew, it takes back what it contradicts.
        """
        for other, (first, last) in list(self._spans.items()):
            if other < revision:
                last = min(last, offset - 1)
            elif other > revision:
                first = max(first, offset + 1)
            self._spans[other] = first, last
            if first > last:
                del self._spans[other]
        first, last = self._spans.get(revision, (offset, offset))
        self._spans[revision] = min(first, offset), max(last, offset)

    @property
    def revisions(self) -> set[int]:
        """The revisions that some record is known to have been folded under."""
        return set(self._spans)

    def at(self, offset: int, appended: int) -> int:
        """The revision that the record at `offset`, appended at `appended` (epoch ms), was folded under."""
        lowest = max((r for r, (first, _) in self._spans.items() if first <= offset), default=0)
        highest = min((r for r, (_, last) in self._spans.items() if last >= offset), default=_ENDLESS)
        return min(max(self._by_time(appended), lowest), highest)

    def _by_time(self, appended: int) -> int:
        """The newest revision then; the first one waits for nothing, because a worker waits for it."""
        place = bisect_right(self._published, (appended, _ENDLESS))
        if place == 0:
            return self._published[0][1] if self._published else 0
        return self._published[place - 1][1]
