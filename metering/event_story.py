"""The story of one event: its copies in Kafka, its hour, the charges of that hour, the invoice line."""

import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from billing_sync.currencies import exponent_and_step
from billing_sync.ledger import Entry, LedgerReader, ledger_url
from billing_sync.planner import RESTATED_LINE, invoice_id
from metering.catalog.resolved import Catalog
from metering.event_copies import Copy, Correction, Identity, approved_copy, copies_of, corrections_of
from metering.events import Refusal, UsageEvent
from metering.rating.money import format_micro
from metering.rating.period import price_for
from metering.rating.usage import HourUse, Usage
from metering.settings import Settings
from metering.state.amendments import RESERVED, VOID
from metering.state.calendar import hour_of, period_of
from metering.state.late import APPROVE
from metering.state.measure import Measure, measure
from metering.state.settle import ADJUSTS


class Count(NamedTuple):
    """What the event is for one meter, and the hourly total that it is part of.

    `quantity` is the event's own. The total is missing when the meter came later. `price` reads it;
    without one, `unpriced` says why.
    """

    meter: str
    aggregation: str
    unit: str
    dimensions: dict[str, str]
    quantity: Decimal
    total: Decimal | None
    events: int
    late: int
    price: str
    unpriced: str


class ChargeRow(NamedTuple):
    """A charge row of the event's hour, or one that corrects its closed period later."""

    period: str
    price: str
    meter: str
    hour: datetime
    currency: str
    quantity: Decimal
    before: Decimal
    after: Decimal
    amount: Decimal
    events: int
    card: str
    card_version: str
    corrects: str


class InvoiceLine(NamedTuple):
    """The line of an invoice that a charge is part of; `amount` is missing when there is none yet."""

    period: str
    price: str
    state: str
    invoice: str
    number: str
    line: str
    description: str
    amount: Decimal | None
    currency: str
    reason: str


@dataclass(frozen=True)
class Story:
    """All that is known of one event.

    `told_by` is the copy that was accepted, or the latest; `data` is what counts of it after corrections,
    None when it was voided. `refusal` is what the catalog in force would say against it. `closed` has
    the closed periods with the watermark that closed them.
    """

    event_id: str
    identity: Identity
    copies: list[Copy]
    told_by: Copy
    revision: int
    hour: int | None
    period: str
    is_counted: bool = False
    data: dict[str, Any] | None = None
    corrections: list[Correction] = field(default_factory=list)
    refusal: str = ""
    counts: list[Count] = field(default_factory=list)
    charges: list[ChargeRow] = field(default_factory=list)
    closed: dict[str, datetime] = field(default_factory=dict)
    invoices: list[InvoiceLine] = field(default_factory=list)


_TOTAL = (
    "SELECT quantity, events, late FROM hourly_current WHERE customer = {customer:String}"
    " AND meter = {meter:String} AND toUnixTimestamp(hour) = {hour:Int64}"
    " AND dimensions = {dimensions:String}"
)
_CHARGES = (
    "SELECT period, price, meter, hour, currency, quantity, quantity_before, quantity_after, amount, events,"
    " card, card_version, corrects FROM charges_current WHERE customer = {customer:String}"
    " AND ((period = {period:String} AND line = 'usage' AND toUnixTimestamp(hour) = {hour:Int64})"
    " OR corrects = {period:String}) ORDER BY corrects, period, price, hour"
)
_ERRORS = (
    "SELECT detail FROM rating_errors_current WHERE customer = {customer:String} AND meter = {meter:String}"
    " AND toUnixTimestamp(hour) = {hour:Int64}"
)
_CLOSED = (
    "SELECT period, watermark FROM period_closes_current WHERE customer = {customer:String}"
    " AND period >= {period:String}"
)


def story_of(
    client: Any, settings: Settings, catalog: Catalog, event_id: str, customer: str = "", source: str = ""
) -> Story:
    """Tell everything about an event that the books and the billing ledger know."""
    identity, copies = copies_of(client, event_id, customer, source)
    corrections = corrections_of(client, event_id, identity)
    counting = approved_copy(copies, corrections)
    if counting is None:
        counting = next((copy for copy in copies if copy.outcome == "accepted"), None)
    else:  # its id is known since the approval
        copies = [c._replace(outcome="duplicate") if c.outcome == "accepted" else c for c in copies]
    told_by = counting or copies[-1]
    hour = None if told_by.time is None else hour_of(told_by.time)
    period = "" if hour is None else period_of(hour)
    story = Story(
        event_id, identity, copies, told_by, catalog.revision, hour, period, is_counted=bool(counting)
    )
    if counting is None or hour is None:
        return story
    story = replace(story, corrections=corrections, data=_after(counting, corrections))
    if story.data is None or counting.type.startswith(RESERVED):
        return story
    measured = measure(_event(story), catalog)
    if isinstance(measured, Refusal):
        return replace(story, refusal=measured.detail)
    return _Teller(client, settings, catalog).tell(story, hour, measured)


def _after(copy: Copy, corrections: list[Correction]) -> dict[str, Any] | None:
    data: dict[str, Any] | None = msgspec.json.decode(copy.data)
    for correction in corrections:
        if correction.outcome == "accepted" and correction.type != APPROVE:
            data = None if correction.type == VOID else correction.instead
    return data


def _event(story: Story) -> UsageEvent:
    told_by, who = story.told_by, story.identity
    return UsageEvent(
        story.event_id, who.source, told_by.type, customer=who.customer, data=story.data, at=told_by.time or 0
    )


class _Teller:
    """The part of a story that is about money."""

    def __init__(self, client: Any, settings: Settings, catalog: Catalog) -> None:
        self._client = client
        self._catalog = catalog
        self._ledger = LedgerReader(ledger_url(settings))

    def _rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return list(self._client.query(sql, parameters=parameters).result_rows)

    def tell(self, story: Story, hour: int, measured: tuple[Measure, ...]) -> Story:
        """The story with totals, charges, closes and invoice lines."""
        customer, period = story.identity.customer, story.period
        counts = [self._count(customer, hour, one) for one in measured]
        rows = self._rows(_CHARGES, customer=customer, period=period, hour=hour)
        charges = _that_read([ChargeRow(*row) for row in rows], counts)
        closed = dict(self._rows(_CLOSED, customer=customer, period=period))
        places = dict.fromkeys((row.period, row.currency, row.price) for row in charges)
        invoices = [self._line(customer, *place, is_closed=place[0] in closed) for place in places]
        for month, currency in dict.fromkeys((row.period, row.currency) for row in charges):
            entries = self._ledger.entries(customer, month, currency)
            first = invoice_id(customer, month, currency)
            invoices += [_of_entry(entry, RESTATED_LINE) for entry in entries if entry.plan.id != first]
        return replace(story, counts=counts, charges=charges, closed=closed, invoices=invoices)

    def _count(self, customer: str, hour: int, one: Measure) -> Count:
        dimensions = json.dumps(dict(one.dimensions), sort_keys=True, ensure_ascii=False)
        place = {"customer": customer, "meter": one.meter.id, "hour": hour}
        totals = self._rows(_TOTAL, **place, dimensions=dimensions)
        total, events, late = totals[0] if totals else (None, 0, 0)
        price, unpriced = self._price(customer, hour, one)
        errors = self._rows(_ERRORS, **place)
        return Count(
            one.meter.id,
            one.meter.aggregation,
            one.meter.unit,
            dict(one.dimensions),
            Decimal(format_micro(one.quantity)),
            total,
            int(events),
            int(late),
            price,
            str(errors[0][0]) if errors else unpriced,
        )

    def _price(self, customer: str, hour: int, one: Measure) -> tuple[str, str]:
        """The price that reads a measure by the catalog in force, or why none does."""
        terms = self._catalog.terms(customer)
        span = terms.agreement.at(hour) if terms is not None else None
        if span is None:
            return "", "no plan covers this hour"
        usage = Usage(one.meter.aggregation, one.quantity, 1)
        price = price_for(span, HourUse(hour, customer, one.meter.id, one.dimensions, usage))
        if price is not None:
            return price, ""
        return "", "free by the rate card" if one.meter.id in span.free else "no price reads it"

    def _line(self, customer: str, period: str, currency: str, price: str, *, is_closed: bool) -> InvoiceLine:
        invoice = invoice_id(customer, period, currency)
        entry = self._ledger.entry(invoice)
        if entry is not None:
            return _of_entry(entry, price)
        waiting = "the period is open"
        if is_closed:
            waiting = self._ledger.parked(customer, period) or "closed; `billing-sync run --once` invoices it"
        return InvoiceLine(period, price, "none", "", "", "", "", None, currency, waiting)


def _of_entry(entry: Entry, price: str) -> InvoiceLine:
    plan = entry.plan
    line = next((line for line in plan.lines if line.price == price), None)
    place = (plan.period, price, entry.state, plan.id, entry.number or entry.external)
    if line is None:
        reason = entry.reason or "no line of its own: less than a unit is carried to the next invoice"
        return InvoiceLine(*place, "", "", None, plan.currency, reason)
    exponent, _ = exponent_and_step(plan.currency)
    amount = Decimal(line.minor).scaleb(-exponent)
    return InvoiceLine(*place, line.id, line.description, amount, plan.currency, entry.reason)


def _that_read(rows: list[ChargeRow], counts: list[Count]) -> list[ChargeRow]:
    """The rows of the prices that read the event; of the meters, where prices have other names by now."""
    found: set[ChargeRow] = set()
    for count in counts:
        of_meter = {row for row in rows if count.meter in row.meter.split("+")}
        found |= {row for row in of_meter if row.price.partition(ADJUSTS)[0] == count.price} or of_meter
    return [row for row in rows if row in found]
