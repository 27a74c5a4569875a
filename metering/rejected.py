"""Dead letters as a person handles them: found by reason, time or customer, with what was done."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from metering.errors import UserError

State = Literal["open", "retried", "approved", "discarded"]
STATES: tuple[State, ...] = get_args(State)
WHOLE_RECORD = -1  # the index of a letter that is not an event of an envelope
OUR_ROW = -2  # the index of a row of ours that ClickHouse refused
_ANY = -3
_BATCH_BYTES = 32 << 20
_BATCH_LETTERS = 1_000
_PLACE = re.compile(r"(?:([^/]+)/)?(\d{1,5}):(\d{1,19})(?::(-?\d{1,4}))?")


class Place(NamedTuple):
    """Where the event of a letter stands in Kafka; `within` is its index in the envelope."""

    topic: str
    partition: int
    offset: int
    within: int = WHOLE_RECORD

    def named(self, events_topic: str) -> str:
        """How a person names it: `2:1234`, `2:1234:0` in an envelope, behind another topic's name."""
        topic = "" if self.topic == events_topic else f"{self.topic}/"
        within = "" if self.within == WHOLE_RECORD else f":{self.within}"
        return f"{topic}{self.partition}:{self.offset}{within}"


def parse_place(text: str, events_topic: str) -> Place:
    """The place that a person names; without an index, it is every letter of that record."""
    match = _PLACE.fullmatch(text.strip())
    if match is None:
        raise UserError(
            f"`{text}` does not name a dead letter",
            hint="write PARTITION:OFFSET, or PARTITION:OFFSET:INDEX in an envelope, as"
            " `metering rejected list` does",
        )
    topic, partition, offset, index = match.groups()
    return Place(topic or events_topic, int(partition), int(offset), _ANY if index is None else int(index))


class Filter(NamedTuple):
    """Which letters: empty fields take all; times are epoch ms of the append, `until` exclusive."""

    reason: str = ""
    customer: str = ""
    since: int = 0
    until: int = 1 << 62
    states: tuple[State, ...] = STATES
    places: tuple[Place, ...] = ()


class Letter(NamedTuple):
    """A dead letter without its payload."""

    place: Place
    appended: datetime
    reason: str
    detail: str
    customer: str
    event_id: str
    event_type: str
    state: State


class Action(NamedTuple):
    """What somebody did about a letter; a retried one stands again at `sent_*`."""

    acted: datetime
    action: str
    actor: str
    reason: str
    sent_partition: int
    sent_offset: int


_WHERE = (
    "({reason:String} = '' OR reason = {reason:String})"
    " AND ({customer:String} = '' OR customer = {customer:String})"
    " AND toUnixTimestamp64Milli(appended) >= {since:Int64}"
    " AND toUnixTimestamp64Milli(appended) < {until:Int64} AND has({states:Array(String)}, state)"
)
_AT = (
    "(k_topic, k_partition, k_offset) IN (SELECT t, p, o FROM (SELECT {topics:Array(String)} AS ts,"
    " {partitions:Array(UInt16)} AS ps, {offsets:Array(UInt64)} AS os) ARRAY JOIN ts AS t, ps AS p, os AS o)"
)
_LETTER = (
    "SELECT k_topic, k_partition, k_offset, k_index, appended, reason, detail, customer, event_id,"
    " event_type, state FROM rejected_letters WHERE "
)
_PLACED = "k_topic, k_partition, k_offset, k_index"


def _where(wanted: Filter) -> tuple[str, dict[str, Any]]:
    parameters: dict[str, Any] = wanted._asdict() | {"states": list(wanted.states)}
    places = parameters.pop("places")
    return (f"{_WHERE} AND {_AT}", parameters | _at(places)) if places else (_WHERE, parameters)


def _at(places: Iterable[Place]) -> dict[str, Any]:
    records = sorted({(p.topic, p.partition, p.offset) for p in places})
    return {
        "topics": [topic for topic, _, _ in records],
        "partitions": [partition for _, partition, _ in records],
        "offsets": [offset for _, _, offset in records],
    }


class Letters:
    """The reads over one blocking client."""

    def __init__(self, client: Any, events_topic: str) -> None:
        self._client = client
        self.events_topic = events_topic

    def _rows(self, sql: str, parameters: dict[str, Any], **options: Any) -> list[tuple[Any, ...]]:
        return list(self._client.query(sql, parameters=parameters, **options).result_rows)

    def find(self, wanted: Filter, limit: int, *, oldest_first: bool = False) -> list[Letter]:
        """Letters: open ones first and the newest first, or in the order of their append."""
        where, parameters = _where(wanted)
        order = f"appended, {_PLACED}" if oldest_first else f"state != 'open', appended DESC, {_PLACED}"
        sql = f"{_LETTER}{where} ORDER BY {order} LIMIT {{limit:UInt32}}"
        rows = self._rows(sql, parameters | {"limit": limit})
        found = [Letter(Place(*row[:4]), *row[4:]) for row in rows]
        return [letter for letter in found if _is_among(letter.place, wanted.places)]

    def count(self, wanted: Filter) -> dict[str, dict[State, int]]:
        """The number of letters by reason and state, the most frequent reason first."""
        where, parameters = _where(wanted)
        rows = self._rows(
            f"SELECT reason, state, count() FROM rejected_letters WHERE {where} GROUP BY reason, state"
            " ORDER BY sum(count()) OVER (PARTITION BY reason) DESC, reason, state",
            parameters,
        )
        found: dict[str, dict[State, int]] = {}
        for reason, state, number in rows:
            found.setdefault(reason, dict.fromkeys(STATES, 0))[state] = int(number)
        return found

    def named(self, text: str, states: tuple[State, ...] = STATES) -> list[Letter]:
        """The letters that a person names; UserError when there is none."""
        place = parse_place(text, self.events_topic)
        found = self.find(Filter(states=states, places=(place,)), _BATCH_LETTERS)
        if not found:
            raise UserError(
                f"there is no dead letter `{text}`", hint="`metering rejected list` names what there is"
            )
        return sorted(found)

    def payloads(self, letters: Iterable[Letter]) -> Iterator[dict[Letter, bytes]]:
        """The original bytes of letters, as many at a time as are easily held in memory."""
        waiting = list(letters)
        for first in range(0, len(waiting), _BATCH_LETTERS):
            some = waiting[first : first + _BATCH_LETTERS]
            sizes = self._of_place("length(payload)", some)
            batch: list[Letter] = []
            held = 0
            for letter in some:
                held += sizes[letter.place]
                if batch and held > _BATCH_BYTES:
                    yield self._load(batch)
                    batch, held = [], sizes[letter.place]
                batch.append(letter)
            yield self._load(batch)

    def _load(self, letters: list[Letter]) -> dict[Letter, bytes]:
        found = self._of_place("payload", letters)
        return {letter: found[letter.place] for letter in letters}

    def _of_place(self, column: str, letters: list[Letter]) -> dict[Place, Any]:
        sql = f"SELECT {_PLACED}, {column} AS value FROM rejected_current WHERE {_AT}"
        formats = {"value": "bytes"} if column == "payload" else None
        rows = self._rows(sql, _at(letter.place for letter in letters), column_formats=formats)
        return {Place(*row[:4]): row[4] for row in rows}

    def actions(self, place: Place) -> list[Action]:
        """What was done about a letter, in order."""
        rows = self._rows(
            "SELECT k_index, acted, action, actor, reason, sent_partition, sent_offset"
            f" FROM rejected_actions_current WHERE {_AT} ORDER BY acted",
            _at([place]),
        )
        return [Action(*row[1:]) for row in rows if row[0] == place.within]


def _is_among(place: Place, places: tuple[Place, ...]) -> bool:
    return not places or any(
        place[:3] == wanted[:3] and wanted.within in (_ANY, place.within) for wanted in places
    )
