"""What the archive holds: the first accepted copy of each event, and what corrected it since."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from metering.backfill.request import Identity, Scope, identity
from metering.events import Refusal, UsageEvent, event_of
from metering.state.amendments import CORRECTIONS, VOID
from metering.state.dedupe import content_of

_IDS_AT_ONCE = 500  # they travel in an address of at most a megabyte
_COLUMNS = (
    "type, toUnixTimestamp64Milli(time), data, backfill, toUnixTimestamp64Milli(appended), k_partition,"
    " k_offset, k_index"
)
_PLACE = "(k_topic, k_partition, k_offset, k_index)"
_FIRST = (
    f"SELECT customer, source, id, argMin(({_COLUMNS}), (k_partition, k_offset, k_index)) FROM events"
    " WHERE customer IN {customers:Array(String)} AND {where}"
    f" AND {_PLACE} NOT IN (SELECT k_topic, k_partition, k_offset, k_index FROM rejected"
    " WHERE customer IN {customers:Array(String)}) GROUP BY customer, source, id"
)
_OF_TYPES = "(empty({types:Array(String)}) OR type IN {types:Array(String)})"
_IN_RANGE = (
    f"{_OF_TYPES} AND time >= fromUnixTimestamp64Milli({{starts:Int64}}, 'UTC')"
    " AND time < fromUnixTimestamp64Milli({ends:Int64}, 'UTC')"
)
_ON_DAYS = f"{_OF_TYPES} AND intDiv(toUnixTimestamp(toDateTime(time)), 86400) IN {{days:Array(UInt32)}}"


class Archived(NamedTuple):
    """An event with its place in its partition (offset, index) and its append time (epoch ms)."""

    event: UsageEvent
    place: tuple[int, int]
    appended: int


@dataclass
class Held:
    """An event that was accepted, and its accepted corrections in the order in which they came."""

    first: Archived
    corrections: list[Archived] = field(default_factory=list)

    @property
    def now(self) -> UsageEvent | None:
        """The event as it counts now; None when it is voided."""
        return self.after(self.corrections)

    def after(self, corrections: Sequence[Archived]) -> UsageEvent | None:
        """The event as it counts behind the first few of its corrections."""
        if not corrections:
            return self.first.event
        last = corrections[-1].event
        return None if last.type == VOID else msgspec.structs.replace(self.first.event, data=_instead(last))


Book = dict[Identity, Held]


def _instead(correction: UsageEvent) -> dict[str, Any]:
    assert correction.data is not None
    found: dict[str, Any] = correction.data["instead"]
    return found


class Archive:
    """Reads over one blocking client; refused copies are left out."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def in_range(self, scope: Scope, customers: Iterable[str]) -> Book:
        """The events of a scope, for some of its customers."""
        found = self._first(
            _IN_RANGE, customers, types=sorted(scope.types), starts=scope.starts, ends=scope.ends
        )
        return self._corrected(Held(one) for one in found if scope.has(one.event))

    def beside(self, events: Iterable[UsageEvent]) -> Book:
        """All events of the same customers and types in the same hours."""
        wanted = {(e.customer, e.type, e.at // 3_600_000) for e in events}
        if not wanted:
            return {}
        days = sorted({hour // 24 for _, _, hour in wanted})
        customers, types = {c for c, _, _ in wanted}, {t for _, t, _ in wanted}
        found = self._first(_ON_DAYS, customers, types=sorted(types), days=days)
        return self._corrected(
            Held(one)
            for one in found
            if (one.event.customer, one.event.type, one.event.at // 3_600_000) in wanted
        )

    def with_identity(self, identities: Iterable[Identity]) -> Book:
        """The events that have these identities, whatever they say."""
        wanted = set(identities)
        customers = {customer for customer, _, _ in wanted}
        ids = iter(sorted({name for _, _, name in wanted}))
        found: list[Archived] = []
        while some := list(islice(ids, _IDS_AT_ONCE)):
            where = "id IN {ids:Array(String)} AND NOT startsWith(type, 'metering.')"
            found += self._first(where, customers, ids=some)
        return self._corrected(Held(one) for one in found if identity(one.event) in wanted)

    def _first(self, where: str, customers: Iterable[str], **parameters: Any) -> Iterator[Archived]:
        rows = self._client.query(
            _FIRST.replace("{where}", where), parameters={"customers": sorted(customers), **parameters}
        ).result_rows
        for customer, source, name, (kind, at, data, backfill, appended, _, offset, index) in rows:
            event = UsageEvent(
                id=name,
                source=source,
                type=kind,
                customer=customer,
                data=msgspec.json.decode(data),
                at=int(at),
                backfill=backfill,
            )
            yield Archived(event, (int(offset), int(index)), int(appended))

    def _corrected(self, found: Iterable[Held]) -> Book:
        book = {identity(held.first.event): held for held in found}
        customers = {customer for customer, _, _ in book}
        if customers:
            made = self._first(_OF_TYPES, customers, types=list(CORRECTIONS))
            for one in sorted(made, key=lambda archived: archived.place):
                held = book.get(_corrects(one.event))
                if held is not None:
                    held.corrections.append(one)
        return book


def _corrects(correction: UsageEvent) -> Identity:
    original = event_of((correction.data or {}).get("event"))
    assert not isinstance(original, Refusal), "an accepted correction carries its original"
    return identity(original)


def is_same(a: UsageEvent | None, b: UsageEvent | None) -> bool:
    """Whether two states of an event say the same."""
    if a is None or b is None:
        return a is b
    return content_of(a) == content_of(b)


def plain_of(event: UsageEvent) -> dict[str, Any]:
    """The event as it is sent, without what names its backfill."""
    names = {"id": event.id, "customer": event.customer, "source": event.source, "type": event.type}
    return {**names, "time": event.at, "data": event.data}
