"""Charges by hour against the charge of the whole: the same period rated once more, without hours."""

from collections import defaultdict
from collections.abc import Iterable

from metering.catalog.resolved import Catalog
from metering.invariants.base import Broken, Invariant
from metering.invariants.facts import Facts
from metering.rating.money import MICRO, format_micro, parse_decimal
from metering.rating.terms import Period
from metering.rating.usage import HourUse
from metering.rerate import cuts, read_usage, rerate
from metering.state import calendar
from metering.state.accounts import Accounts

Amounts = dict[tuple[str, str], int]  # customer, price → micro-units


class ChargesByHour(Invariant):
    """The hours telescope: whatever was posted hour by hour is the charge of the whole quantity."""

    name = "charges_by_hour"
    means = "charges by hour = charge of the whole period, by customer and price, at the catalog in force"
    remedy = (
        "Do not bill the period. `metering explain CUSTOMER --period P --price X` shows the hours, `metering"
        " audit` which of them differ; `metering state verify` tells a damaged state from damaged books."
    )
    travels = True

    def check(self, facts: Facts) -> list[Broken]:
        """Rate each period again: a closed one under the revision that closed it."""
        return [broken for period in facts.periods for broken in _check(facts, calendar.period(period))]


def _check(facts: Facts, period: Period) -> list[Broken]:
    charged = _charged(facts, period)
    closed = _revisions_at_close(facts, period)
    newest = facts.revisions[-1] if facts.revisions else 0
    groups: defaultdict[tuple[int, bool], set[str]] = defaultdict(set)
    for customer in _customers(facts, period) | {customer for customer, _ in charged}:
        revision = closed.get(customer)
        groups[(newest, False) if revision is None else (revision, True)].add(customer)
    catalogs = {r: facts.catalog(r) for r, _ in groups if r in facts.revisions}
    uses = list(read_usage(facts.client, cuts(period, *catalogs.values()), period))
    expected: Amounts = {}
    for (revision, closing), customers in groups.items():
        if revision in catalogs:  # one that the books have lost cannot be rated by
            expected |= _whole(catalogs[revision], uses, period, customers, closing=closing)
    return _differences(period, charged, expected, {c for c, _ in expected})


def _whole(
    catalog: Catalog, uses: Iterable[HourUse], period: Period, customers: set[str], *, closing: bool
) -> Amounts:
    """What some customers' period comes to; windows that go through periods are not whole in one."""
    accounts = Accounts(catalog, 0, 1)
    wanted = {c for c in customers if not accounts.has_contract_scope(catalog.account_of(c))}
    found: Amounts = {(customer, ""): 0 for customer in wanted}
    for place, amount in rerate(catalog, uses, period, closing=closing).amounts.items():
        if place[0] in wanted:
            found[place] = amount
    return found


def _differences(period: Period, charged: Amounts, expected: Amounts, customers: set[str]) -> list[Broken]:
    found = []
    for customer, price in sorted(charged.keys() | expected.keys()):
        a, b = charged.get((customer, price), 0), expected.get((customer, price), 0)
        if a != b and customer in customers:
            where = f"{period.name} {customer} {price}"
            found.append(Broken(where, f"{format_micro(a)} by hour", f"{format_micro(b)} whole"))
    return found


def _charged(facts: Facts, period: Period) -> Amounts:
    """What was charged for a period, later corrections of it included."""
    rows = facts.rows(
        "SELECT customer, if(corrects = '', price, splitByChar('@', price)[1]) AS what, sum(amount)"
        " FROM charges_current WHERE if(corrects = '', period, corrects) = {period:String}"
        " GROUP BY customer, what",
        period=period.name,
    )
    return {(customer, price): parse_decimal(amount, MICRO) for customer, price, amount in rows}


def _revisions_at_close(facts: Facts, period: Period) -> dict[str, int]:
    rows = facts.rows(
        "SELECT customer, toUInt32(bitAnd(version, toUInt128(4294967295))) FROM period_closes_current"
        " WHERE period = {period:String}",
        period=period.name,
    )
    return {customer: int(revision) for customer, revision in rows}


def _customers(facts: Facts, period: Period) -> set[str]:
    rows = facts.rows(
        "SELECT DISTINCT customer FROM hourly_current WHERE formatDateTime(hour, '%Y-%m') = {period:String}",
        period=period.name,
    )
    return {customer for (customer,) in rows}
