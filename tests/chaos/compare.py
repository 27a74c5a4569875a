"""The books against the model: every count and sum, every charge, every close, every invoice."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import clickhouse_connect
import yaml

from billing_sync.currencies import MINIMUM_CHARGE
from billing_sync.planner import invoice_id
from billing_sync.stripe_fake.state import State
from metering.audit import run_audit
from metering.rating.money import MICRO, parse_decimal
from metering.sinks.queries import Books
from tests.chaos.catalog import CURRENCIES, CUSTOMERS, FIRST, SECOND, customer, plan_of, text
from tests.chaos.fleet import stripe_state
from tests.chaos.lines import EXAMPLES, Line, count, differing
from tests.chaos.model import HourKey, Model, PriceKey
from tests.chaos.quotas import compared, thresholds, wanted
from tests.chaos.world import World

_MICRO_OF_A_CENT = 10_000
_SMALLEST_INVOICE = MINIMUM_CHARGE["USD"] * _MICRO_OF_A_CENT  # the other currencies have a smaller one
_ANSWER_SECONDS = 600
_ADJUSTED = """SELECT DISTINCT customer, splitByChar('@', price)[1], corrects FROM charges_current
    WHERE line = 'adjustment'"""


class Verdict(NamedTuple):
    """The figures that must be zero, and the lines that they come from."""

    lost: int
    twice: int
    charges_wrong: int
    thresholds_wrong: int
    lines: list[Line]

    @property
    def is_clean(self) -> bool:
        """Whether nothing differs at all."""
        return not any(line.differ for line in self.lines)


def compare(world: World, model: Model, in_kafka: int, sent: int) -> Verdict:
    """Every comparison, once everything is stored, closed and billed."""
    with _patient(world) as client:
        books = Books(client)
        hours, lost, twice = _hours(client, model)
        charges = [*_charges(world, client, model), *_closes(books)]
        charges += _audit(client)
        charges += _invoices(world, client)
        quotas = _thresholds(world, client, model)
        lines = [
            count("records sent = in Kafka", sent, in_kafka),
            *_counters(books, model),
            *hours,
            *charges,
            *quotas,
        ]
    wrong = (sum(line.differ for line in found) for found in (charges, quotas))
    return Verdict(lost, twice, *wrong, lines)


def _patient(world: World) -> Any:
    """A client that waits for the audit of a million events, longer than the 30 seconds of ours."""
    place = urlsplit(world.settings.clickhouse())
    return clickhouse_connect.get_client(
        host=place.hostname,
        port=place.port,
        database=world.settings.database,
        send_receive_timeout=_ANSWER_SECONDS,
        tz_mode="aware",
        autogenerate_session_id=False,
    )


def _counters(books: Books, model: Model) -> list[Line]:
    found = books.counters()
    copies, distinct = books.archived()
    return [
        count("events read", model.read, found.read),
        count("accepted", model.accepted, found.accepted),
        count("duplicates", model.duplicates, found.duplicates),
        count("rejected", model.rejected, found.rejected),
        count("dead letters", model.rejected, sum(books.rejected_by_reason().values())),
        count("copies in the archive", model.copies, copies),
        count("distinct ids in the archive", model.archived_ids, distinct),
    ]


def _hours(client: Any, model: Model) -> tuple[list[Line], int, int]:
    rows = client.query(
        "SELECT customer, meter, dimensions, toUnixTimestamp(hour), toString(quantity), events"
        " FROM hourly_current"
    ).result_rows
    events: dict[HourKey, int] = {}
    quantities: dict[HourKey, int] = {}
    for name, meter, dimensions, hour, quantity, number in rows:
        place = (name, meter, tuple(sorted(json.loads(dimensions).items())), int(hour))
        events[place] = int(number)
        quantities[place] = int(Decimal(quantity) * 1_000)
    missing, surplus = _gap(model.events, events), _gap(events, model.events)
    lines = [
        differing("hourly counts", model.events, events),
        differing("hourly sums", model.quantities, quantities),
    ]
    return lines, missing, surplus


def _gap(more: Mapping[HourKey, int], less: Mapping[HourKey, int]) -> int:
    """Events of `more` that `less` does not have; each event is in one total of `calls`."""
    return sum(max(0, n - less.get(place, 0)) for place, n in more.items() if place[1] == "calls")


def _charges(world: World, client: Any, model: Model) -> list[Line]:
    found: Counter[PriceKey] = Counter()
    rows = client.query(
        "SELECT customer, price, if(corrects = '', period, corrects), toString(sum(amount))"
        " FROM charges_current GROUP BY 1, 2, 3"
    ).result_rows
    for name, price, period, amount in rows:
        if period in (FIRST, SECOND):
            found[name, price.partition("@")[0], period] += parse_decimal(amount, MICRO)
    wanted = model.charges(world.catalog(3))
    whole = model.whole_charges(_whole_prices())
    same = {place: found[place] for place in whole}
    adjustments = sum(1 for row in rows if "@" in row[1])
    errors = sum(Books(client).rating_errors(period) for period in (FIRST, SECOND))
    return [
        differing("charges by customer, price and month", wanted, _without_zeros(found, wanted)),
        differing("charges of whole quantities", whole, same),
        Line("late usage of the closed month", "adjusted", f"{adjustments:,} prices", int(not adjustments)),
        count("usage without a price", 0, errors),
    ]


def _thresholds(world: World, client: Any, model: Model) -> list[Line]:
    """Each threshold of each limit once, through all that was done to workers."""
    must = wanted(world.events, world.catalog(3), model, time.time_ns() // 1_000_000)
    told = asyncio.run(thresholds(world.settings))
    rows = client.query("SELECT id FROM quota_events_current WHERE event = 'threshold'").result_rows
    return compared(must, (one.id for one in told), (name for (name,) in rows))


def _without_zeros(found: Mapping[PriceKey, int], wanted: Mapping[PriceKey, int]) -> dict[PriceKey, int]:
    return {place: amount for place, amount in found.items() if amount or place in wanted}


def _whole_prices() -> dict[str, dict[str, Any]]:
    """The prices of the first month that read one meter, as the last revision writes them."""
    (version, *_) = yaml.safe_load(text(3))["rate_cards"][0]["versions"]
    wanted = ("calls", "bytes")
    return {
        p["id"]: {k: v for k, v in p.items() if k not in ("id", "meter")}
        for p in version["prices"]
        if p["id"] in wanted
    }


def _closes(books: Books) -> Iterable[Line]:
    for period in (FIRST, SECOND):
        agree = sum(1 for close in books.closes(period) if close.agrees)
        yield count(f"closes of {period} that agree", CUSTOMERS, agree)


def _audit(client: Any) -> list[Line]:
    """The second opinion in SQL: hour by hour, and where late usage was adjusted, by the sum of the price.

    The closed hours of such a price stay as they were, so the audit rightly finds others.
    """
    audit = run_audit(client)
    wrong = [str(d) for d in audit.differences if d.check != "charge"]
    hours = client.query(
        f"""SELECT d.customer, d.price, d.period, count() FROM audit_charge_differences AS d
        WHERE (d.customer, d.price, d.period) NOT IN ({_ADJUSTED}) GROUP BY 1, 2, 3"""
    ).result_rows
    sums = client.query(
        f"""SELECT a.customer, a.price, a.period, toString(a.amount), toString(b.amount)
        FROM (SELECT customer, price, period, sum(amount) AS amount FROM audit_charges
              WHERE (customer, price, period) IN ({_ADJUSTED}) GROUP BY 1, 2, 3) AS a
        LEFT JOIN (SELECT customer, splitByChar('@', price)[1] AS price,
                   if(corrects = '', period, corrects) AS period, sum(amount) AS amount
                   FROM charges_current GROUP BY 1, 2, 3) AS b USING (customer, price, period)
        WHERE a.amount != toDecimal256(b.amount, 6)"""
    ).result_rows
    (counts,) = client.query(f"SELECT count() FROM ({_ADJUSTED})").result_rows
    found = [*wrong, *map(str, hours), *map(str, sums)]
    examples = tuple(found[:EXAMPLES])
    return [
        Line(
            "the audit in SQL", f"{audit.totals:,} totals", f"{audit.charges:,} charges", len(found), examples
        ),
        Line("prices audited by their sum", "adjusted", f"{counts[0]:,}", int(not counts[0])),
    ]


def _invoices(world: World, client: Any) -> list[Line]:
    """Each customer and month once, to the cent what was charged, what is left carried on."""
    state = State(stripe_state(world.settings))
    try:
        invoices, people = state.all("invoice"), state.all("customer")
        lines = {invoice["id"]: state.all("line_item", invoice["id"]) for invoice in invoices}
    finally:
        state.close()
    held: dict[str, list[dict[str, Any]]] = {}
    for invoice in invoices:
        held.setdefault(invoice["metadata"].get("um_invoice", ""), []).append(invoice)
    charged = {
        (name, period): parse_decimal(amount, MICRO)
        for name, period, amount in client.query(
            "SELECT customer, period, toString(sum(amount)) FROM charges_current GROUP BY 1, 2"
        ).result_rows
    }
    wrong, expected = [], set()
    for number in range(CUSTOMERS):
        carried = 0
        for period in (FIRST, SECOND):
            identity = invoice_id(customer(number), period, CURRENCIES[plan_of(number)])
            expected.add(identity)
            found = held.get(identity, [])
            carried += charged.get((customer(number), period), 0)
            carried -= sum(i["total"] for i in found) * _MICRO_OF_A_CENT
            if problem := _problem(found, lines, carried):
                wrong.append(f"{customer(number)} {period}: {problem}")
    wrong += [f"not expected: {identity}" for identity in held.keys() - expected]
    doubled = len(people) - len({p["metadata"].get("um_customer") for p in people})
    return [
        Line("invoices", f"{len(expected):,}", f"{len(invoices):,}", len(wrong), tuple(wrong[:EXAMPLES])),
        count("customers twice at Stripe", 0, doubled),
    ]


def _problem(found: list[dict[str, Any]], lines: dict[str, list[dict[str, Any]]], carried: int) -> str:
    if not found and 0 <= carried < _SMALLEST_INVOICE:
        return ""
    if len(found) != 1:
        return f"{len(found)} invoices instead of one"
    (invoice,) = found
    held = lines[invoice["id"]]
    if invoice["status"] != "open":
        return f"it is {invoice['status']}"
    if len({line["metadata"].get("um_line") for line in held}) != len(held):
        return "a line stands on it twice"
    if sum(line["amount"] for line in held) != invoice["total"]:
        return "its lines do not add up to its total"
    return f"{carried} micro-units are left" if abs(carried) >= _MICRO_OF_A_CENT else ""
