"""The account of the demo: what was sent against what was counted, charged and invoiced."""

from dataclasses import dataclass
from decimal import Decimal

from billing_sync.run import RunResult
from metering.audit import Audit
from metering.catalog.resolved import Catalog
from metering.demo.traffic import PERIOD, Traffic
from metering.rating.money import format_micro
from metering.rerate import rerate
from metering.sinks.queries import Books
from metering.state.calendar import period


@dataclass(frozen=True)
class Line:
    """One line of the account: both sides, and whether they are equal."""

    title: str
    left: str
    right: str

    @property
    def adds_up(self) -> bool:
        """Whether both sides are the same figure."""
        return self.left == self.right


def account(books: Books, sent: Traffic, catalog: Catalog, billed: RunResult, audit: Audit) -> list[Line]:
    """Every line of the account; all must add up."""
    counters = books.counters()
    metered = books.metered(PERIOD)
    charged = sum(books.charged(PERIOD).values(), Decimal(0))
    month = month_charge(books, catalog)
    invoiced = sum((i.invoiced for i in billed.invoices), Decimal(0))
    carried = sum((i.carried_after - i.carried_before for i in billed.invoices), Decimal(0))
    outcomes = counters.accepted + counters.duplicates + counters.rejected
    return [
        _count("events sent = read", len(sent.records), counters.read),
        _count("read = accepted + duplicates + rejected", counters.read, outcomes),
        _count("accepted = requests in the trace", counters.accepted, sent.requests),
        _count("duplicates = sent twice", counters.duplicates, sent.duplicates),
        _count("rejected = malformed", counters.rejected, sent.malformed),
        _count("dead letters = rejected", sum(books.rejected_by_reason().values()), sent.malformed),
        _count("input tokens = in the files", metered.get("input_tokens"), sent.input_tokens),
        _count("output tokens = in the files", metered.get("output_tokens"), sent.output_tokens),
        _count("requests metered = in the files", metered.get("requests"), sent.requests),
        _count("usage without a price", books.rating_errors(PERIOD), 0),
        Line("charges by hour = charge of the month", _money(charged), month),
        _count(f"hourly totals that differ in SQL, of {audit.totals:,}", _found(audit, "hourly"), 0),
        _count(f"charges that differ in SQL, of {audit.charges:,}", _found(audit, "charge"), 0),
        _count(f"rows without their explanation, of {audit.explained:,}", _found(audit, "explanation"), 0),
        Line("charges = invoices + carried remainder", _money(charged), _money(invoiced + carried)),
    ]


def _found(audit: Audit, check: str) -> int:
    return sum(1 for difference in audit.differences if difference.check == check)


def month_charge(books: Books, catalog: Catalog) -> str:
    """The charge of the month from whole quantities instead of hours; see `metering.rerate`."""
    month = period(PERIOD)
    rated = rerate(catalog, books.usage(catalog, month), month)
    assert not rated.unpriced, rated.unpriced[:3]
    return format_micro(sum(rated.amounts.values()))


def _count(title: str, left: int | Decimal | None, right: int) -> Line:
    return Line(title, f"{int(left or 0):,}", f"{right:,}")


def _money(amount: Decimal) -> str:
    return f"{amount:.6f}"
