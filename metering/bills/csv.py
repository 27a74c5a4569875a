"""The bill for a spreadsheet: one row a slice, effect and rounding; the amounts add up to the total."""

import csv
import io
from collections.abc import Iterator
from decimal import Decimal

from metering.bills.document import BillDocument
from metering.explain import PriceExplanation

COLUMNS = (
    "customer", "name", "period", "currency", "state", "line", "price", "meter", "corrects", "card",
    "card_version", "since", "tier", "label", "units", "billed", "unit_price", "fee", "amount",
)  # fmt: skip
# What Excel, LibreOffice and Sheets take for a formula, in half and full width.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def as_csv(bill: BillDocument) -> str:
    """RFC 4180 with a header; numbers are plain decimals, times are UTC, texts cannot become formulas."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    head = (bill.customer, bill.name, bill.period, bill.currency, bill.state.state)
    for found in [*bill.charges, *bill.adjustments]:
        for row in _rows(found):
            writer.writerow([_cell(value) for value in (*head, *row)])
    return out.getvalue()


def _rows(found: PriceExplanation) -> Iterator[tuple[object, ...]]:
    what = (found.line, found.price, found.meter, found.corrects)
    for p in found.parts:
        since = f"{p.since:%Y-%m-%dT%H:%M:%SZ}"
        numbers = (p.units, p.billed, p.unit_price, p.fee, p.amount)
        yield (*what, p.card, p.card_version, since, p.tier, p.label, *numbers)
    for e in found.effects:
        yield (*what, "", e.card_version, "", "", e.name, "", "", "", "", e.amount)
    if found.rounding:
        yield (*what, "", "", "", "", "rounding", "", "", "", "", found.rounding)


def _cell(value: object) -> str:
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    text = str(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else text
