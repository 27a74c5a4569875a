"""A backfill made ready: account by account, what would be sent and what that would change."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from metering.backfill.archive import Archive, Book
from metering.backfill.books import Ledger, Part
from metering.backfill.events import Stamp, manifest, records_of
from metering.backfill.plan import Plan, plan_apply, plan_revert
from metering.backfill.rehearsal import Metered, Rated, Terms, goes_on, meter, place_of, rate
from metering.backfill.request import Identity, Line, Problem, Request, identity
from metering.catalog.resolved import Catalog
from metering.errors import UserError
from metering.rating.money import MICRO, parse_decimal
from metering.records import HourlyTotal
from metering.settings import Settings
from metering.state import calendar
from metering.state.calendar import period_of
from metering.state.meter_rules import MeterRules
from metering.state.partitioning import partition_of
from metering.state.rate_fold import RateRules

_ACCOUNTS_AT_ONCE = 500


class Units(NamedTuple):
    """Hourly totals of a meter in a period, added up (micro-units), and their events."""

    customer: str
    period: str
    meter: str
    before: int
    after: int
    events_before: int
    events_after: int


@dataclass
class Prepared:
    """One account's part; `records` are sent behind the `manifests`."""

    account: str
    plan: Plan
    manifests: dict[str, bytes]  # by customer
    records: list[bytes]
    units: list[Units] = field(default_factory=list)
    rated: Rated = field(default_factory=lambda: Rated([], []))


class Preparing:
    """Reads what matters of the archive and rehearses a plan over it."""

    def __init__(self, archive: Archive, ledger: Ledger, settings: Settings, catalog: Catalog) -> None:
        self._archive, self._ledger = archive, ledger
        self._settings, self._catalog = settings, catalog

    def apply(self, request: Request, stamp: Stamp) -> list[Prepared]:
        """What a request comes to."""
        lines: defaultdict[str, list[Line]] = defaultdict(list)
        for line in request.lines:
            lines[self._catalog.account_of(line.event.customer)].append(line)
        replaced = request.scope.customers if request.mode == "replace" else frozenset()
        customers: defaultdict[str, set[str]] = defaultdict(set)
        for customer in replaced:
            customers[self._catalog.account_of(customer)].add(customer)
        facts = {
            "mode": request.mode,
            "file": request.file,
            "digest": request.digest,
            "scope": request.scope.plain(),
        }
        made = []
        for group in _groups(lines.keys() | customers.keys()):
            mine = [line for account in group for line in lines[account]]
            known = self._archive.with_identity(identity(line.event) for line in mine)
            there = self._replaced(request, {c for account in group for c in customers[account]})
            plans = {a: plan_apply(request, lines[a], known, there[a]) for a in group}
            made += self._prepare(plans, stamp, facts)
        return made

    def _replaced(self, request: Request, customers: Collection[str]) -> Mapping[str, Book]:
        return self._split(self._archive.in_range(request.scope, customers) if customers else {})

    def _split(self, book: Book) -> Mapping[str, Book]:
        """By account; empty for one that has nothing."""
        found: defaultdict[str, Book] = defaultdict(dict)
        for place, held in book.items():
            found[self._catalog.account_of(place[0])][place] = held
        return found

    def revert(self, applied: Iterable[Part], touched: Iterable[Identity], stamp: Stamp) -> list[Prepared]:
        """What takes an applied backfill back."""
        accounts: defaultdict[str, set[Identity]] = defaultdict(set)
        for place in touched:
            accounts[self._catalog.account_of(place[0])].add(place)
        first = next(iter(applied))
        facts = {"mode": first.mode, "file": first.file, "digest": first.digest}
        made = []
        for group in _groups(accounts):
            wanted = (place for account in group for place in accounts[account])
            found = self._split(self._archive.with_identity(wanted))
            plans = {a: plan_revert(stamp.backfill, found[a]) for a in group}
            made += self._prepare(plans, stamp, facts)
        return made

    def _prepare(self, plans: Mapping[str, Plan], stamp: Stamp, facts: dict[str, Any]) -> list[Prepared]:
        events = (operation.event for plan in plans.values() for operation in plan.operations)
        books = self._split(self._archive.beside(events))
        made, moved = [], {}
        for account, plan in plans.items():
            book = books[account]
            counted = [now for held in book.values() if (now := held.now) is not None]
            records = records_of(stamp, plan, counted, self._catalog)
            manifests = {
                customer: manifest(stamp, customer, {**facts, **plan.counts(customer)})
                for customer in plan.customers
            }
            made.append(Prepared(account, plan, manifests, records))
            metered = self._meter(made[-1], book) if records else None
            if metered is not None:
                moved[account] = metered
        self._rate({one.account: one for one in made}, moved)
        return made

    def _meter(self, prepared: Prepared, book: Book) -> Metered | None:
        """The totals that a plan moves; None when it is refused, or no meter counts its events."""
        account, plan, moment = prepared.account, prepared.plan, self._ledger.moment(prepared.account)
        metered = meter(self._meter_rules(account), moment, book, prepared.records, self._catalog)
        for number, (reason, detail) in sorted(metered.refused.items()):
            operation = plan.operations[number]
            named = "" if operation.line else f"{operation.kind} of `{operation.event.id}`: "
            plan.problems.append(Problem(operation.line, reason, named + detail))
        return metered if metered.after != metered.before and not plan.problems else None

    def _rate(self, prepared: Mapping[str, Prepared], moved: Mapping[str, Metered]) -> None:
        """Rate what was moved, with the totals that stand beside it."""
        together: defaultdict[int, list[str]] = defaultdict(list)
        for account, metered in moved.items():
            first = min(hour for _, _, hour, _ in metered.after)
            goes = goes_on(self._catalog, account)
            together[0 if goes else calendar.period(period_of(first)).starts].append(account)
        terms = self._ledger.terms(moved, self._catalog)
        for since, accounts in together.items():
            members = [customer for account in accounts for customer in self._catalog.members(account)]
            totals: defaultdict[str, list[HourlyTotal]] = defaultdict(list)
            for total in self._ledger.totals(members, since):
                totals[self._catalog.account_of(total.customer)].append(total)
            for account in accounts:
                self._rate_one(prepared[account], moved[account], totals[account], terms[account])

    def _rate_one(
        self, prepared: Prepared, metered: Metered, totals: list[HourlyTotal], terms: Terms
    ) -> None:
        _check(metered, totals)
        changed = [total for place, total in metered.after.items() if metered.before.get(place) != total]
        watermark = self._ledger.moment(prepared.account).watermark
        prepared.units = _units(totals, changed)
        prepared.rated = rate(self._rate_rules(), terms, totals, changed, watermark)

    def _meter_rules(self, account: str) -> MeterRules:
        settings = self._settings
        return MeterRules(
            partition=partition_of(account, settings.partitions),
            partitions=settings.partitions,
            events_topic="events",
            hourly_topic="hourly",
            rejected_topic="rejected",
            epoch=settings.epoch,
            grace_hours=settings.close_grace_hours,
            max_future_ms=settings.max_future_seconds * 1_000,
        )

    def _rate_rules(self) -> RateRules:
        return RateRules(0, 1, "charges", self._settings.epoch, self._settings.close_grace_hours)


def _groups(accounts: Iterable[str]) -> Iterator[list[str]]:
    """Accounts that are read together: a question to the archive has room for so many names."""
    left = iter(sorted(accounts))
    while group := list(islice(left, _ACCOUNTS_AT_ONCE)):
        yield group


def _check(metered: Metered, totals: Iterable[HourlyTotal]) -> None:
    """A rehearsal is worth something only where the archive explains the books."""
    books = {place_of(total): total for total in totals}
    for place in metered.after:
        if _facts(books.get(place)) != _facts(metered.before.get(place)):
            raise UserError(
                f"the books differ from their archive: {place[0]}, meter {place[1]}",
                hint="run `metering audit`; is the sink behind? `metering status`",
            )


def _facts(total: HourlyTotal | None) -> tuple[int, int, int]:
    if total is None:
        return 0, 0, 0
    return parse_decimal(total.quantity, MICRO), total.events, int(total.digest or "0", 16)


def _units(totals: Iterable[HourlyTotal], changed: Iterable[HourlyTotal]) -> list[Units]:
    before = {place_of(total): total for total in totals}
    later = before | {place_of(total): total for total in changed}
    sums: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for number, found in enumerate((before, later)):
        for total in found.values():
            place = sums[total.customer, period_of(total.hour), total.meter]
            place[number] += parse_decimal(total.quantity, MICRO)
            place[2 + number] += total.events
    return [Units(*place, *n) for place, n in sorted(sums.items()) if n[0] != n[1] or n[2] != n[3]]
