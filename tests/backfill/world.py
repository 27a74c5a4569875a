"""Both folds with an archive in memory: what the pipeline and ClickHouse are to a backfill."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from metering.backfill.archive import Archived, Book, Held
from metering.backfill.events import Stamp
from metering.backfill.preparing import Prepared, Preparing
from metering.backfill.rehearsal import Amount, Moment, Terms
from metering.backfill.request import Identity, Request, Scope, identity
from metering.catalog.load import load_texts
from metering.catalog.resolved import Catalog, resolve
from metering.events import UsageEvent, decode_values, event_of
from metering.rating.money import parse_quantity
from metering.records import Charge, HourlyTotal
from metering.settings import Settings
from metering.state.amendments import CORRECTIONS, RESERVED
from metering.state.calendar import period_end
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.rate_fold import RateFold, RateRules
from tests.state.folding import HOUR, NOW, START, chunk, records, tick

EVERY = load_texts({"c.yaml": (Path(__file__).parent.parent / "state" / "every_model.yaml").read_text()})
SETTINGS = Settings(partitions=1)
Sums = dict[tuple[str, str, str], int]


class World:
    """What was sent so far, and what the folds made of it."""

    def __init__(self, catalog: Catalog = EVERY) -> None:
        self.catalog = catalog
        self._meter: Any = MeterFold(MeterRules(0, 1, "events", "hourly", "rejected"))
        self._rate: Any = RateFold(RateRules(0, 1, "charges"))
        self._accepted: list[Archived] = []
        self._rows: dict[tuple[str, str, str, int], Charge] = {}
        self._totals: dict[tuple[str, ...], HourlyTotal] = {}
        self.letters: list[Any] = []
        self.begun = self.now = NOW  # the first append of the log, and the next one
        self.send(tick(NOW - START))  # the month begins before its usage, and is over
        self.send(tick(NOW - period_end("2023-11") - 12 * HOUR))

    def send(self, *values: bytes) -> None:
        first = self._meter.offset or 0
        self._meter.fold([chunk(first, list(values), NOW)], self.catalog)
        made = self._meter.changes()
        letters = records([made], "rejected")
        self.letters += letters
        refused = {letter.offset - first for letter in letters}
        for number, item in enumerate(decode_values(values)):
            if number not in refused and isinstance(item.event, UsageEvent):
                event = msgspec.structs.replace(item.event, time=None)
                self._accepted.append(Archived(_stored(event), (first + number, -1), NOW))
        hourly = [output.value for output in made.outputs if output.topic == "hourly"]
        for total in (r for r in records([made], "hourly") if isinstance(r, HourlyTotal)):
            place = (total.customer, total.meter, str(total.hour), *sorted(total.dimensions.values()))
            self._totals[place] = total
        self._rate.fold([chunk(self._rate.offset or 0, hourly)], self.catalog)
        for row in records([self._rate.changes()], "charges"):
            if isinstance(row, Charge):
                self._rows[row.customer, row.period, row.price, row.hour] = row

    def charges(self) -> Sums:
        """By customer, period (that a row is of, or corrects) and price."""
        found: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        for row in self._rows.values():
            place = (row.customer, row.corrects or row.period, row.price.partition("@")[0])
            found[place] += parse_quantity(row.amount, 6)
        return {place: amount for place, amount in found.items() if amount}

    def metered(self) -> dict[tuple[str, ...], tuple[str, int, str]]:
        return {p: (t.quantity, t.events, t.digest) for p, t in self._totals.items() if t.events}

    def counting(self) -> dict[Identity, UsageEvent]:
        """The events that count now."""
        return {place: now for place, held in self._book().items() if (now := held.now) is not None}

    def forget_archive(self) -> None:
        self._accepted = []

    # -- what `Archive` and `Ledger` read from ClickHouse -----------------------------------------

    def _book(self) -> Book:
        book: Book = {}
        for one in self._accepted:
            if one.event.type in CORRECTIONS:
                assert one.event.data is not None
                original = event_of(one.event.data["event"])
                assert isinstance(original, UsageEvent)
                corrections = book[identity(original)].corrections
                if one.event.id not in {c.event.id for c in corrections}:
                    corrections.append(one)
            elif not one.event.type.startswith(RESERVED):
                book.setdefault(identity(one.event), Held(one))
        return book

    def in_range(self, scope: Scope, customers: Iterable[str]) -> Book:
        of = set(customers)
        return {p: h for p, h in self._book().items() if scope.has(h.first.event) and p[0] in of}

    def beside(self, events: Iterable[UsageEvent]) -> Book:
        wanted = {(e.customer, e.type, e.at // HOUR) for e in events}
        found = self._book().items()
        return {p: h for p, h in found if (p[0], h.first.event.type, h.first.event.at // HOUR) in wanted}

    def with_identity(self, identities: Iterable[Identity]) -> Book:
        wanted = set(identities)
        return {place: held for place, held in self._book().items() if place in wanted}

    def moment(self, _: str) -> Moment:
        return Moment(self.begun, self.now, self._meter.watermark)

    def totals(self, customers: Iterable[str], since: int) -> list[HourlyTotal]:
        wanted = set(customers)
        return [t for t in self._totals.values() if t.customer in wanted and t.hour >= since]

    def terms(self, accounts: Iterable[str], in_force: Catalog) -> dict[str, Terms]:
        content, found = in_force.content, {}
        for account in accounts:
            members = tuple(c for c in content.customers if (c.pool or c.id) == account)
            part = content.model_copy(update={"customers": members})
            found[account] = Terms(resolve(part, in_force.revision), {})
        return found

    # -- backfills --------------------------------------------------------------------------------

    def _preparing(self) -> Preparing:
        own: Any = self
        return Preparing(own, own, SETTINGS, self.catalog)

    def prepare(self, request: Request) -> list[Prepared]:
        return self._preparing().apply(request, Stamp(request.backfill, "apply", "anna", "why", START))

    def prepare_revert(self, backfill: str) -> list[Prepared]:
        parts: Any = [type("Part", (), {"mode": "", "file": "", "digest": ""})]
        return self._preparing().revert(parts, self._book(), Stamp(backfill, "revert", "anna", "no", START))

    def carry_out(self, prepared: list[Prepared]) -> None:
        for one in prepared:
            self.send(*one.manifests.values(), *one.records)


def _stored(event: UsageEvent) -> UsageEvent:
    """As it comes back from the archive: numbers with a fraction are text."""
    return msgspec.structs.replace(event, data=msgspec.json.decode(msgspec.json.encode(event.data)))


def amounts(prepared: list[Prepared]) -> list[Amount]:
    return [amount for one in prepared for amount in one.rated.amounts]


def usage(number: int, n: object = 1, customer: str = "a", at: int = START, **more: Any) -> bytes:
    """An event of every meter; `more` are other values of its data, or fields of the event."""
    data = {"n": n, "p": "2", "region": "eu", "size": "s", "user": "u1"}
    data |= {name: more.pop(name) for name in list(more) if name in data}
    body = {"id": f"e{number}", "customer": customer, "type": "use", "time": at, "data": data}
    return json.dumps({**body, **more}).encode()
