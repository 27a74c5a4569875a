"""Dead letters that come back: what a retry would come to, the retry itself, and the record of it."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from aiokafka.errors import KafkaError

from metering.catalog.resolved import Catalog
from metering.errors import UserError
from metering.events import Refusal, UsageEvent, decode_values
from metering.producer import UsageProducer
from metering.records import DeadLetter, LetterAction, decode, encode, key, version
from metering.rejected import OUR_ROW, Letter
from metering.settings import Settings
from metering.sinks.queries import Books
from metering.state.amendments import RESERVED, read_amendment
from metering.state.calendar import hour_of
from metering.state.dead_letters import LETTER_PAYLOAD_BYTES
from metering.state.dedupe import DAY_MS, HORIZON_DAYS
from metering.state.fold import Chunk
from metering.state.measure import Measure, measure
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.partitioning import partition_of
from metering.state.totals import LARGEST_VALUES
from metering.topics import Names

_STORED_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.2
_TOTAL_DECIDES = ("meter_changed", "too_many_values")
_NEVER_FITS = ("already_voided", "not_invertible", "outdated_correction")

Identity = tuple[str, str, str]  # customer, source, id


class Forecast(NamedTuple):
    """What a retry of a letter would come to; without a `key` it cannot be sent at all."""

    letter: Letter
    outcome: Literal["counts", "duplicate", "refused"]
    reason: str = ""
    detail: str = ""
    key: bytes = b""
    payload: bytes = b""

    def is_sent(self, *, anyway: bool) -> bool:
        """Whether a retry sends it: what would be refused again only when that is wanted."""
        return bool(self.key) and (anyway or self.outcome != "refused")


class Counted(NamedTuple):
    """A copy of an event that was not refused: what it said, and when it was appended (epoch ms)."""

    said: bytes
    appended: int


_COUNTED = (
    "SELECT customer, source, id, argMin((type, toUnixTimestamp64Milli(time), data,"
    " toUnixTimestamp64Milli(appended)), (appended, k_partition, k_offset, k_index)) FROM events"
    " WHERE id IN {ids:Array(String)} AND (customer, source, id) IN (SELECT c, s, i FROM"
    " (SELECT {customers:Array(String)} AS cs, {sources:Array(String)} AS ss, {ids:Array(String)} AS es)"
    " ARRAY JOIN cs AS c, ss AS s, es AS i) AND (k_topic, k_partition, k_offset, k_index) NOT IN"
    " (SELECT k_topic, k_partition, k_offset, k_index FROM rejected WHERE event_id IN {ids:Array(String)})"
    " GROUP BY customer, source, id"
)
_BEGUN = "SELECT k_partition, toUnixTimestamp64Milli(min(appended)) FROM events GROUP BY k_partition"
_TOTAL = (
    "SELECT aggregation, length(value_keys) FROM hourly_current WHERE customer = {customer:String}"
    " AND meter = {meter:String} AND toUnixTimestamp(hour) = {hour:Int64}"
    " AND dimensions = {dimensions:String}"
)


class Forecaster:
    """Asks the meter fold itself, at the partitions' watermarks, and the archive for earlier copies."""

    def __init__(self, client: Any, settings: Settings, catalog: Catalog, now: int) -> None:
        self._client, self._settings, self._catalog, self._now = client, settings, catalog, now
        self._watermarks = Books(client).watermarks()
        self._begun = {int(partition): int(first) for partition, first in client.query(_BEGUN).result_rows}
        self._folds: dict[int, MeterFold] = {}
        self._counted: dict[Identity, Counted] = {}

    def of(self, payloads: Mapping[Letter, bytes]) -> list[Forecast]:
        """What each letter would come to if all were sent now, in this order."""
        events = {letter: _event(letter, payload) for letter, payload in payloads.items()}
        asked = {place for event in events.values() for place in _asked(event)}
        self._counted = _counted(self._client, asked) if asked else {}
        return [self._one(letter, payloads[letter], event) for letter, event in events.items()]

    def _one(self, letter: Letter, payload: bytes, event: UsageEvent | Refusal) -> Forecast:
        if isinstance(event, Refusal):
            return Forecast(letter, "refused", event.reason, event.detail)
        earlier = self._counted.get(_identity(event))
        sent = Forecast(letter, "counts", "", "", self._account(event).encode(), payload)
        if earlier is not None:
            return self._second_copy(sent, event, earlier)
        return self._folded(sent, event)

    def _account(self, event: UsageEvent) -> str:
        return self._catalog.account_of(event.customer)

    def _second_copy(self, sent: Forecast, event: UsageEvent, earlier: Counted) -> Forecast:
        """A copy is sent only while the worker surely knows the id of the one that counted."""
        days = (self._now - earlier.appended) // DAY_MS + 1
        if _said(event.type, event.at, event.data) != earlier.said:
            detail = "Another copy counted, with another type, time or data; correct it with a new id."
            return sent._replace(outcome="refused", reason="conflict", detail=detail, key=b"")
        if days >= HORIZON_DAYS:
            detail = f"It counted {days} days ago; its id is not surely known any more. Discard the letter."
            return sent._replace(outcome="refused", reason="counted_before", detail=detail, key=b"")
        return sent._replace(outcome="duplicate", detail="Another copy of it counts already.")

    def _folded(self, sent: Forecast, event: UsageEvent) -> Forecast:
        """What the fold of its partition makes of it, behind the letters before it."""
        partition = partition_of(self._account(event), self._settings.partitions)
        fold = self._folds.get(partition) or self._folds.setdefault(partition, self._fold(partition))
        accepted, offset = fold.counters.accepted, fold.offset or 0
        chunk = Chunk(offset, offset + 1, [offset], [sent.payload], self._now)
        fold.fold([chunk], self._catalog)
        changes = fold.changes()
        records = [decode(output.value) for output in changes.outputs if output.value] if changes else []
        for record in records:
            if isinstance(record, DeadLetter) and not self._is_founded(sent.letter, record, event):
                return sent._replace(outcome="refused", reason=record.reason, detail=record.detail)
            if isinstance(record, DeadLetter):
                return sent._replace(detail="It is a correction; whether it still fits, the worker knows.")
        if fold.counters.accepted == accepted:
            return sent._replace(outcome="duplicate", detail="It is among these letters twice.")
        letter = sent.letter
        if letter.reason in _TOTAL_DECIDES and self._has_no_room(event):
            return sent._replace(outcome="refused", reason=letter.reason, detail=letter.detail)
        return sent

    def _is_founded(self, letter: Letter, record: DeadLetter, event: UsageEvent) -> bool:
        """Whether the archive has the original of a correction that this fold cannot know."""
        if record.reason != "unknown_event" or letter.reason in _NEVER_FITS:
            return False
        found = read_amendment(event)
        return not isinstance(found, Refusal) and _identity(found.original) in self._counted

    def _fold(self, partition: int) -> MeterFold:
        """A fold that knows how far time has come, and since when there has been a log."""
        settings = self._settings
        rules = MeterRules(
            partition=partition,
            partitions=settings.partitions,
            events_topic="events",
            hourly_topic="hourly",
            rejected_topic="rejected",
            grace_hours=settings.close_grace_hours,
            max_future_ms=settings.max_future_seconds * 1_000,
        )
        fold = MeterFold(rules, watermark=self._watermarks.get(partition, 0))
        fold.fold([Chunk(0, 1, [], [], self._begun.get(partition, self._now))], self._catalog)
        return fold

    def _has_no_room(self, event: UsageEvent) -> bool:
        """Whether a total of the event's hour, as the books have it, still cannot take it."""
        found = measure(event, self._catalog)
        return not isinstance(found, Refusal) and any(self._does_not_fit(event, one) for one in found)

    def _does_not_fit(self, event: UsageEvent, one: Measure) -> bool:
        place = {
            "customer": event.customer,
            "meter": one.meter.id,
            "hour": hour_of(event.at),
            "dimensions": json.dumps(dict(one.dimensions), sort_keys=True, ensure_ascii=False),
        }
        rows = self._client.query(_TOTAL, parameters=place).result_rows
        return any(
            kind != one.meter.aggregation or (one.value and values >= LARGEST_VALUES) for kind, values in rows
        )


def _event(letter: Letter, payload: bytes) -> UsageEvent | Refusal:
    if letter.place.within == OUR_ROW:
        return Refusal(letter.reason, "It is a row of ours and not an event; mend what its detail names.")
    if len(payload) == LETTER_PAYLOAD_BYTES:
        detail = f"Only {LETTER_PAYLOAD_BYTES:,} bytes of it are kept; take it from its place in Kafka."
        return Refusal(letter.reason, detail)
    first = next(decode_values([payload]))
    return first.event


def _identity(event: UsageEvent) -> Identity:
    return event.customer, event.source, event.id


def _asked(event: UsageEvent | Refusal) -> list[Identity]:
    """The events whose earlier copies matter: itself, and the original of a correction."""
    if isinstance(event, Refusal):
        return []
    found = read_amendment(event) if event.type.startswith(RESERVED) else None
    return [_identity(event)] + (
        [] if found is None or isinstance(found, Refusal) else [_identity(found.original)]
    )


def _said(kind: str, at: int, data: Any) -> bytes:
    """What an event says, however it was written."""
    return msgspec.json.encode([kind, at, data], order="deterministic")


def _counted(client: Any, identities: Iterable[Identity]) -> dict[Identity, Counted]:
    customers, sources, ids = (list(column) for column in zip(*sorted(identities), strict=True))
    parameters = {"customers": customers, "sources": sources, "ids": ids}
    rows = client.query(_COUNTED, parameters=parameters).result_rows
    return {
        (customer, source, event_id): Counted(_said(kind, at, msgspec.json.decode(data)), int(appended))
        for customer, source, event_id, (kind, at, data, appended) in rows
    }


async def send_again(settings: Settings, forecasts: Sequence[Forecast], actor: str) -> dict[int, int]:
    """Send letters to the events topic, then record each; cut off in between, they stay open.

    Where the record of it ends, by partition of the topic of the letters.
    """
    events = Names(settings).events
    try:
        async with UsageProducer(settings.brokers(), events) as producer:
            placed = await producer.deliver((f.key, f.payload) for f in forecasts)
    except KafkaError as error:
        raise not_taken(error) from error
    sent = zip((f.letter for f in forecasts), placed, strict=True)
    return await record(settings, [action_of(settings, x, "retried", actor, "", at) for x, at in sent])


async def discard(settings: Settings, letters: Iterable[Letter], actor: str, reason: str) -> dict[int, int]:
    """Record that letters are not wanted; where the record of it ends, by partition."""
    return await record(settings, [action_of(settings, x, "discarded", actor, reason) for x in letters])


def action_of(
    settings: Settings,
    letter: Letter,
    action: Literal["retried", "approved", "discarded"],
    actor: str,
    reason: str,
    sent: tuple[int, int] = (-1, -1),
) -> LetterAction:
    """What somebody does about a letter now; what is sent stands at `sent` (partition, offset)."""
    now = time.time_ns() // 1_000_000
    stamp = str(version(settings.epoch, now))
    return LetterAction(*letter.place, action, actor, reason, now, stamp, *sent)


async def record(settings: Settings, actions: Iterable[LetterAction]) -> dict[int, int]:
    """Append what was done about letters; where it ends, by partition of the topic of the letters."""
    records = [
        (key("action", a.topic, a.partition, a.offset, a.index, a.action, a.at), encode(a)) for a in actions
    ]
    try:
        async with UsageProducer(settings.brokers(), Names(settings).rejected) as producer:
            placed = await producer.deliver(records)
    except KafkaError as error:
        raise not_taken(error) from error
    return {partition: offset + 1 for partition, offset in sorted(placed)}


def not_taken(error: KafkaError) -> UserError:
    """The broker has some records or none; the same command goes on."""
    return UserError(
        f"the broker did not take all records: {error!r}",
        hint="run the same command again: what has no record yet is still open, and no event counts twice",
    )


def wait_until_stored(client: Any, topic: str, ends: Mapping[int, int]) -> bool:
    """Wait a moment for the sink to have stored a topic up to these offsets."""
    deadline = time.monotonic() + _STORED_SECONDS
    while time.monotonic() < deadline:
        stored = Books(client).stored()
        if all(stored.get((topic, partition), 0) >= end for partition, end in ends.items()):
            return True
        time.sleep(_LOOK_AGAIN_SECONDS)
    return False
