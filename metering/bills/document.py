"""What a printed bill says: the books' own figures of one customer's period, ready to be laid out."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from metering.corrected import corrected_usage
from metering.explain import PriceExplanation, explanations
from metering.periods import PeriodState, restated_words, revisions
from metering.periods import periods as period_states
from metering.settings import Settings
from metering.sinks.queries import Books
from metering.state import calendar

_ZONE = (
    "SELECT JSONExtractString(arrayFirst(c -> JSONExtractString(c, 'id') = {customer:String},"
    " JSONExtractArrayRaw(content, 'customers')), 'zone') FROM catalog ORDER BY revision DESC LIMIT 1"
)
_UNPRICED = (
    "SELECT meter, sum(quantity), count(), any(reason), any(detail) FROM rating_errors_current"
    " WHERE customer = {customer:String} AND period = {period:String} GROUP BY meter, reason ORDER BY meter"
)


class Missing(NamedTuple):
    """Usage that no price covers: it is on the bill as an open question, never as a zero."""

    meter: str
    quantity: Decimal
    hours: int
    reason: str
    detail: str


@dataclass(frozen=True)
class BillDocument:
    """Σ amounts of `charges` and `adjustments` = `total`, to the micro-unit of the currency.

    `starts` and `ends` are the UTC month in the customer's zone; `ends` is exclusive. `adjustments`
    correct closed periods. `restated` and `corrected` are sentences.
    """

    customer: str
    name: str
    period: str
    currency: str
    zone: tzinfo
    starts: datetime
    ends: datetime
    state: PeriodState
    charges: list[PriceExplanation]
    adjustments: list[PriceExplanation]
    missing: list[Missing]
    restated: list[str]
    corrected: list[str]
    total: Decimal

    @property
    def is_final(self) -> bool:
        """Whether the period is closed: its figures change only by a restatement."""
        return self.state.closed is not None

    def local(self, at: datetime) -> datetime:
        """An instant in the customer's zone."""
        return at.astimezone(self.zone)


def bill_document(client: Any, settings: Settings, customer: str, period: str) -> BillDocument | None:
    """Read a customer's period from the books; None when nothing was charged and nothing is unpriced."""
    asked = {"customer": customer, "period": period}
    found = explanations(client, customer, period)
    states = [one for one in period_states(client, settings, customer) if one.period == period]
    missing = [Missing(*row) for row in client.query(_UNPRICED, parameters=asked).result_rows]
    if not found or not states:
        return None
    zone, month = zone_of(client, customer), calendar.period(period)
    touched = {period, *(one.corrects for one in found if one.corrects)}
    return BillDocument(
        customer=customer,
        name=Books(client).name(customer),
        period=period,
        currency=states[0].currency,
        zone=zone,
        starts=datetime.fromtimestamp(month.starts, UTC).astimezone(zone),
        ends=datetime.fromtimestamp(month.ends, UTC).astimezone(zone),
        state=states[0],
        charges=[one for one in found if not one.corrects],
        adjustments=[one for one in found if one.corrects],
        missing=missing,
        restated=[line for close in revisions(client, customer, period) for line in restated_words(close)],
        corrected=[line.strip() for line in corrected_usage(client, customer, touched)],
        total=sum((one.amount for one in found), Decimal(0)),
    )


def zone_of(client: Any, customer: str) -> tzinfo:
    """The zone that the catalog in force gives a customer; UTC when it names none."""
    rows = client.query(_ZONE, parameters={"customer": customer}).result_rows
    return ZoneInfo(rows[0][0]) if rows and rows[0][0] else ZoneInfo("UTC")
