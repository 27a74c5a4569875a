"""What the books cannot hold is an error row, never a wrong number."""

from metering.rating.cards import ONE, Price, Tier
from metering.rating.hourly import LARGEST, hourly_rows
from metering.rating.terms import Period
from metering.rating.usage import HourUse, Usage
from tests.rating.prices import segment

PERIOD = Period("p", 0, 3600 * 24)


def rate(price: Price, *quantities: int) -> tuple[list[int], list[str]]:
    uses = [HourUse(h * 3600, "a", "m", (), Usage("sum", q, 1)) for h, q in enumerate(quantities)]
    found = hourly_rows([segment(price)], uses, PERIOD)
    return [row.amount for row in found.rows], [missing.reason for missing in found.unpriced]


def test_the_largest_quantity_is_still_rated() -> None:
    assert rate(Price("unit", (Tier(None, 10**12),)), LARGEST - 1) == ([LARGEST - 1], [])


def test_one_more_is_an_error_row() -> None:
    assert rate(Price("unit", (Tier(None, 1),)), LARGEST) == ([], ["out_of_range"])


def test_a_charge_beyond_range_is_an_error_row_from_its_hour_on() -> None:
    dear = Price("unit", (Tier(None, 10**21),))  # a billion a unit
    amounts, reasons = rate(dear, ONE, LARGEST // 10**8, ONE)
    assert (amounts, reasons) == ([10**9 * ONE], ["out_of_range", "out_of_range"])


def test_a_cap_does_not_hide_a_part_beyond_range() -> None:
    capped = Price("unit", (Tier(None, 10**21),), cap=5 * ONE)
    assert rate(capped, LARGEST // 10**8) == ([], ["out_of_range"])
