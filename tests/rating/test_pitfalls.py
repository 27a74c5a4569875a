"""Defects seen in the field, one test each: it fails when the defect is put in."""

import asyncio
import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from metering.catalog.load import CatalogError
from metering.catalog.resolved import Catalog, resolve
from metering.rating import load_card
from metering.rating.cards import ONE, Origin, Price, Segment, Tier
from metering.rating.charge import EXACT_IN_MICRO, round_exact
from metering.rating.hourly import by_hour, hourly_rows
from metering.rating.money import MICRO, format_micro, parse_decimal
from metering.rating.period import Rated, rate_period
from metering.rating.rows import ChargeRow, Unpriced
from metering.rating.usage import HourUse, Usage, quantity_of
from metering.records import Charge, HourlyTotal, PeriodClose, RatingError, Watermark, decode, encode, version
from metering.settings import Settings
from metering.sinks.client import connect
from metering.sinks.migrate import migrate
from metering.sinks.rows import of_record
from metering.sinks.writer import Origin as Place
from metering.sinks.writer import Writer
from metering.state import calendar
from metering.state.fold import Changes, Output
from tests.state.folding import (
    CATALOG,
    HOUR,
    START,
    catalog,
    chunk,
    event,
    meter_fold,
    rate_fold,
    records,
    tick,
)

DAY = 24 * HOUR
FIRST = START // 1_000
NOVEMBER = calendar.period("2023-11")
CLOSE = (NOVEMBER.ends + 24 * 3600) * 1_000  # with a grace of 24 hours
ORIGIN = Origin("card", "v1", "USD")
GRADUATED = {"model": "graduated", "tiers": [{"up_to": 10, "unit_price": "1"}, {"unit_price": "0.5"}]}
VOLUME = {"model": "volume", "tiers": [{"up_to": 10, "unit_price": "1"}, {"unit_price": "0.5"}]}
PACKAGE = {"model": "package", "package_size": 1000, "unit_price": "2.50"}
CALLS = {"model": "increment", "increment": 6, "unit_price": "0.01", "connection_fee": "0.05"}


def micro(text: object) -> int:
    return parse_decimal(str(text), MICRO)


def use(hour: int, usage: Usage, meter: str = "tokens", **dimensions: str) -> HourUse:
    return HourUse(FIRST + hour * 3600, "a", meter, tuple(dimensions.items()), usage)


def total(quantity: object) -> Usage:
    return Usage("sum", micro(quantity), 1)


def sizes(*found: object) -> Usage:
    keys = [str(micro(size)) for size in found]
    return Usage("each", sum(map(int, keys)), len(keys), {key: keys.count(key) for key in keys})


def rows(price: dict[str, Any] | Price, *hours: Usage) -> list[ChargeRow]:
    made = price if isinstance(price, Price) else load_card(price).price
    uses = [use(hour, usage) for hour, usage in enumerate(hours)]
    return hourly_rows([Segment(0, None, made, "p", ORIGIN)], uses, NOVEMBER).rows


def bill(price: dict[str, Any] | Price, *hours: object) -> list[str]:
    """The charge of each hour's quantity or usage, without trailing zeros."""
    used = (hour if isinstance(hour, Usage) else total(hour) for hour in hours)
    return [plain(row.amount) for row in rows(price, *used)]


def plain(amount: int) -> str:
    return f"{Decimal(format_micro(amount)).normalize():f}"


def rated(text: str, uses: list[HourUse], *, closing: bool = False) -> Rated:
    return rate_period(catalog(text).members("a"), by_hour(uses), NOVEMBER, closing=closing)


def revision(text: str, number: int) -> Catalog:
    return resolve(catalog(text).content, revision=number)


def hourly(hour: int, quantity: int, at: int, **changes: Any) -> bytes:
    record = HourlyTotal("a", "tokens", FIRST + hour * 3600, str(quantity), 1, str(version(1, at)), **changes)
    return encode(record)


def watermark(at: int) -> bytes:
    return encode(Watermark(0, at, str(version(1, 10**6))))


def rate(*batches: list[bytes], text: str = CATALOG) -> list[Any]:
    """The records that a rate fold makes of batches."""
    fold, made, offset = rate_fold(), [], 0
    for batch in batches:
        fold.fold([chunk(offset, batch)], catalog(text))
        offset += len(batch)
        made.append(fold.changes())
    return records(made, "charges")


# -- tiers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["graduated", "volume", "graduated_package"])
def test_units_beyond_the_last_bound_are_charged(model: str) -> None:
    """Units beyond the last bounded tier cost nothing."""
    card = GRADUATED | {"model": model} | ({"package_size": 1} if "package" in model else {})
    assert bill(card, 1_000_000) == [{"volume": "500000"}.get(model, "500005")]
    with pytest.raises(ValueError, match="the last tier ends at 10"):
        load_card(card | {"tiers": [{"up_to": 10, "unit_price": "1"}]})
    with pytest.raises(ValueError, match="last tier"):
        Price("graduated", (Tier(10, 1),))


def test_a_fraction_above_a_bound_is_in_the_next_tier() -> None:
    """A tier begins a whole unit above the last bound, so a fraction between them costs nothing."""
    assert bill(VOLUME, "10.5") == ["5.25"]
    assert bill(GRADUATED, "10.5") == ["10.25"]
    assert bill(GRADUATED, "10.000001", "0.999999") == ["10.000001", "0.499999"]


@pytest.mark.parametrize("model", ["graduated", "volume", "stairstep", "capacity"])
def test_a_bound_belongs_to_the_lower_tier(model: str) -> None:
    """A bound is read as exclusive after an upgrade."""
    fees = {"graduated": "11", "volume": "11", "stairstep": "1", "capacity": "1"}
    tiers: list[dict[str, Any]] = [{"up_to": 10, "flat_fee": "1"}, {"flat_fee": "7"}]
    if model in ("graduated", "volume"):
        tiers = [tier | {"unit_price": "1"} for tier in tiers]
    if model == "capacity":
        tiers = [{"limits": {"tokens": 10}, "flat_fee": "1"}, {"flat_fee": "7"}]
    card = {"model": model, "meter": "tokens", "tiers": tiers}
    kind: Any = "max" if model == "capacity" else "sum"
    at, above = (rows(card, Usage(kind, 10_000_000 + step, 1))[0] for step in (0, 1))
    assert plain(at.amount) == fees[model]
    assert above.amount > at.amount + 5_000_000


def test_a_row_can_be_negative() -> None:
    """A negative hour is refused or cut to zero, so a volume price adds up to too much."""
    assert bill(VOLUME, 10, 2) == ["10", "-4"]


# -- fees and rounding ---------------------------------------------------------------------------


def test_a_unit_price_is_not_rounded_before_it_is_multiplied() -> None:
    """The unit price is rounded to cents first."""
    assert bill({"model": "unit", "unit_price": "0.000123"}, 12_345) == ["1.518435"]


def test_a_fraction_of_a_unit_over_the_allowance_is_charged() -> None:
    """Units over an allowance are cut to whole ones."""
    assert bill({"model": "unit", "unit_price": "2", "included": 1000}, "1000.25") == ["0.5"]


def test_the_fee_of_a_tier_counts_once_a_period() -> None:
    """The fee of a tier is charged in every slice of time."""
    tiers = [{"up_to": 10, "unit_price": "1"}, {"unit_price": "1", "flat_fee": "5"}]
    assert bill({"model": "graduated", "tiers": tiers}, 11, 11, 11) == ["16", "11", "11"]


def test_a_connection_fee_counts_once_an_event() -> None:
    """The connection fee is charged for each increment, or once for all events of an hour."""
    assert bill(CALLS, sizes(12), sizes(6, 6)) == ["0.17", "0.22"]


def test_packages_are_rounded_up_once_a_period() -> None:
    """Each hour rounds up to packages of its own, so many small hours cost more than the whole."""
    assert bill(PACKAGE, 1, 1, 998, 1) == ["2.5", "0", "0", "2.5"]


def test_an_event_is_rounded_up_to_increments_by_itself() -> None:
    """Durations are rounded on their sum, or the pieces of one event each by themselves."""
    assert bill(CALLS | {"connection_fee": "0"}, sizes(61), sizes(61, 61)) == ["0.66", "1.32"]


def test_rounding_is_half_away_from_zero_on_both_sides() -> None:
    """A function written for positive amounts rounds -0.4 to -1, or -0.5 to 0."""
    tenth = EXACT_IN_MICRO // 10
    found = [round_exact(tenths * tenth) for tenths in (-15, -14, -6, -5, -4, 0, 4, 5, 6, 14, 15)]
    assert found == [-2, -1, -1, -1, 0, 0, 0, 1, 1, 1, 2]
    assert [quantity_of(Usage("average", n, 10)) for n in (-15, -14, -5, -4, 4, 5, 15)] == [
        -2, -1, -1, 0, 0, 1, 2,
    ]  # fmt: skip


def test_six_decimals_are_not_six_digits() -> None:
    """A setting of decimals is taken for significant digits, so large amounts lose their cents."""
    assert bill({"model": "unit", "unit_price": "1"}, "1234567.891234") == ["1234567.891234"]


def test_sums_are_exact() -> None:
    """Charges are added up as floats: 99.49999 where 99.5 is exact."""
    whole = {"model": "unit", "unit_price": "1"}
    assert [(row.amount, row.after) for row in rows(whole, *[total("0.1")] * 700)][-1] == (100_000, 70 * ONE)
    assert bill(whole, 2**53 + 1, "0.000001") == ["9007199254740993", "0.000001"]


PERCENT_OFF = CATALOG.replace("rate_card: card}", "rate_card: card, discounts: [{id: less, percent: 10}]}")


def test_a_percentage_off_does_not_drift() -> None:
    """Each line rounds its own discount, so the lines differ from the discount of the whole."""
    uses = [use(hour, total("0.00004"), kind="x") for hour in range(25)]  # 0.000004 an hour
    found = [row.amount for row in rated(PERCENT_OFF, uses).rows if row.kind == "discount"]
    assert sum(found) == -10  # 10 % of 0.000100; ten percent of an hour is nothing
    on_price = {"model": "unit", "unit_price": "0.1", "discounts": [{"id": "less", "percent": 10}]}
    assert sum(row.amount for row in rows(on_price, *[total("0.00004")] * 25)) == 90


# -- prices that change --------------------------------------------------------------------------


RENAMED = CATALOG.replace(
    "plans:",
    """\
      - from: 2023-11-16T00:00:00Z
        not_charged: [calls]
        prices: [{id: words, meter: tokens, model: unit, unit_price: "2"}]
plans:""",
)
MIDDLE = 15 * 24  # hours from the start of November to the switch


def test_usage_under_a_price_that_is_gone_is_charged() -> None:
    """What was used before a price was removed is never billed."""
    uses = [use(0, total(10), kind="x"), use(MIDDLE, total(10), kind="x")]
    found = {row.price: plain(row.amount) for row in rated(RENAMED, uses).rows}
    assert found == {"tokens": "1", "words": "20"}


def test_a_gauge_keeps_the_charge_from_before_a_price_change() -> None:
    """What cannot be added up is billed at the current price alone."""
    cards = ({"model": "unit", "meter": "tokens", "unit_price": price} for price in ("1", "2"))
    prices = [load_card(card).price for card in cards]
    switch = FIRST + 3600
    segments = [Segment(0, switch, prices[0], "p", ORIGIN), Segment(switch, None, prices[1], "p", ORIGIN)]
    uses = [use(hour, Usage("max", micro(peak), 1)) for hour, peak in enumerate((10, 15))]
    assert [plain(row.amount) for row in hourly_rows(segments, uses, NOVEMBER).rows] == ["10", "10"]


def test_an_hour_has_one_price() -> None:
    """An hour straddles a switch, so its usage is billed at the wrong one of two prices."""
    uses = [use(hour, total(1), kind="x") for hour in (MIDDLE - 1, MIDDLE)]
    assert [row.price for row in rated(RENAMED, uses).rows] == ["tokens", "words"]
    with pytest.raises(CatalogError, match="full hour"):
        catalog(RENAMED.replace("16T00:00:00Z", "16T10:30:00Z"))
    with pytest.raises(CatalogError, match="full hour"):
        catalog(RENAMED.replace("16T00:00:00Z", "16T00:00:00+05:30"))


def test_hours_and_periods_are_utc_wherever_a_worker_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's zone moves usage into another hour or month, and a switch of clocks doubles an hour."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        period_of = calendar.period_of.__wrapped__
        assert [period_of(at) for at in (NOVEMBER.starts, NOVEMBER.ends - 1, NOVEMBER.ends)] == [
            "2023-11", "2023-11", "2023-12",
        ]  # fmt: skip
        assert calendar.period_end.__wrapped__("2023-11") == NOVEMBER.ends * 1_000
    finally:
        monkeypatch.undo()
        time.tzset()


# -- what has no price, what is due at the end ---------------------------------------------------


MATRIX = CATALOG.replace(
    """\
            model: volume
            tiers: [{up_to: 1000, unit_price: "0.10"}, {unit_price: "0.08"}]
""",
    """\
            model: unit
            matrix: {dimensions: [kind], unrated: error, cells: [{when: {kind: x}, unit_price: "1"}]}
""",
)


def test_a_combination_without_a_cell_is_an_error_and_not_zero() -> None:
    """Usage that no cell of a matrix takes costs nothing, and nobody is told."""
    found = rated(
        MATRIX, [use(0, total(1), kind="x"), use(0, total(7), kind="y"), use(1, total(2), kind="y")]
    )
    assert [(row.hour, plain(row.amount), row.quantity) for row in found.rows] == [(FIRST, "1", 1_000_000)]
    assert [(type(m), m.reason, m.quantity) for m in found.unpriced] == [
        (Unpriced, "no_cell", 7_000_000),
        (Unpriced, "no_cell", 2_000_000),
    ]


MINIMUM = CATALOG.replace("rate_card: card}", 'rate_card: card, minimum: {amount: "100"}}')


def test_a_minimum_is_one_line_at_the_close() -> None:
    """The missing part of a minimum is spread over hours, or charged before the period is over."""
    uses = [use(hour, total(125), kind="x") for hour in range(5)]  # 62.50 in all
    assert {row.kind for row in rated(MINIMUM, uses).rows} == {"usage"}
    (line,) = [row for row in rated(MINIMUM, uses, closing=True).rows if row.kind != "usage"]
    assert (line.price, plain(line.amount), line.hour) == ("minimum", "37.5", NOVEMBER.ends - 3600)


# -- closed periods, late and repeated usage -----------------------------------------------------


def test_a_closed_period_does_not_move() -> None:
    """The lines of a closed bill change after late usage or under a new catalog."""
    fold = rate_fold()
    fold.fold([chunk(0, [hourly(0, 600, 1), watermark(CLOSE)])], revision(CATALOG, 1))
    fold.changes()
    fold.fold([chunk(2, [hourly(0, 900, 2)])], revision(CATALOG.replace('"0.10"', '"9"'), 2))
    later = records([fold.changes()], "charges")
    assert all(isinstance(row, Charge) and row.period != "2023-11" for row in later)
    assert [row.corrects for row in later] == ["2023-11"]


def test_usage_within_the_grace_is_accepted() -> None:
    """The grace is not looked at: what comes after the end of a period is refused."""
    fold = meter_fold()
    arrives = NOVEMBER.ends * 1_000 + DAY - 1
    fold.fold([chunk(0, [tick(), event(1, hour=1, n=7)], arrives)], catalog())
    made = [r for r in records([fold.changes()], "hourly") if isinstance(r, HourlyTotal)]
    assert {(r.meter, r.quantity, r.late) for r in made} == {("tokens", "7", 1), ("calls", "1", 1)}
    before = rate([hourly(0, 600, 1), watermark(CLOSE - 1)], [hourly(0, 900, 2)])
    assert [r.amount for r in before if isinstance(r, Charge)] == ["60.000000", "90.000000"]
    assert not [r for r in before if isinstance(r, PeriodClose)]


def test_an_event_sent_again_at_the_end_of_the_grace_counts_once() -> None:
    """Identities are forgotten before the period closes, so a late second copy counts twice."""
    fold = meter_fold()
    fold.fold([chunk(0, [event(1)], START)], catalog())
    fold.changes()
    fold.fold([chunk(1, [event(1)], CLOSE - 1)], catalog())
    assert (fold.counters.accepted, fold.counters.duplicates) == (1, 1)


def test_an_event_sent_again_for_a_closed_period_counts_once() -> None:
    """Identities are forgotten before late usage is refused, so a second copy becomes an adjustment."""
    fold = meter_fold()
    fold.fold([chunk(0, [event(1)], START)], catalog())
    fold.changes()
    fold.fold([chunk(1, [tick(), event(1)], CLOSE + 10 * DAY)], catalog())
    assert fold.counters.accepted == 1


def test_late_usage_without_a_price_is_an_error_and_not_zero() -> None:
    """Usage of a closed period that no price takes costs nothing, and nobody is told."""
    late = hourly(1, 5, 2, dimensions={"kind": "y"})
    made = rate([hourly(0, 5, 1, dimensions={"kind": "x"}), watermark(CLOSE)], [late], text=MATRIX)
    assert [type(r) for r in made if getattr(r, "card", True)] == [Charge, PeriodClose, RatingError]


def test_a_quiet_partition_closes_its_period() -> None:
    """A partition without events holds its watermark back for ever, so nothing is billed."""
    fold = meter_fold()
    fold.fold([chunk(0, [event(1, n=600)], START)], catalog())
    made = [fold.changes()]
    fold.fold([chunk(1, [tick()], CLOSE)], catalog())
    made.append(fold.changes())
    values = [o.value for c in made if c for o in c.outputs]
    (close,) = [r for r in rate(values) if isinstance(r, PeriodClose)]
    assert (close.period, close.amount) == ("2023-11", "60.000001")


BATCHES = [[hourly(0, 600, 1)], [hourly(1, 300, 2)], [hourly(2, 200, 3)], [hourly(0, 800, 4)]]


@pytest.mark.parametrize("crash", range(1, 4))
def test_a_replay_after_a_crash_counts_nothing_twice(crash: int) -> None:
    """Differences are written to a store that gets each of them at least once."""
    outputs: list[Output] = []
    _feed(outputs.extend, BATCHES[:crash])  # published, then lost with its checkpoint
    _feed(outputs.extend, [[*BATCHES[0], *BATCHES[1]], [*BATCHES[2], *BATCHES[3]]])  # again, cut differently
    held: dict[bytes | None, Charge] = {}
    for output in outputs:
        (row,) = records([Changes(1, 0, b"", [], [], 0, [output])], "charges")
        if output.key not in held or int(row.version) >= int(held[output.key].version):
            held[output.key] = row
    amounts = {row.hour - FIRST: row.amount for row in held.values()}
    assert amounts == {0: "80.000000", 3600: "8.000000", 7200: "16.000000"}


def _feed(publish: Callable[[list[Output]], None], batches: list[list[bytes]]) -> None:
    fold, offset = rate_fold(), 0
    for batch in batches:
        fold.fold([chunk(offset, batch)], catalog())
        offset += len(batch)
        changes = fold.changes()
        assert changes is not None
        publish(changes.outputs)


# -- wires and stores ----------------------------------------------------------------------------


def test_a_number_above_2_to_the_53_arrives_as_it_was_sent() -> None:
    """A JSON number is read as a float and loses its last digits."""
    fold = meter_fold()
    fold.fold([chunk(0, [event(1, n=2**53 + 1), event(2, n="0.01")])], catalog())
    made = fold.changes()
    assert made is not None
    found = [r for r in records([made], "hourly") if isinstance(r, HourlyTotal) and r.meter == "tokens"]
    assert found[-1].quantity == "9007199254740993.01"


def test_amounts_travel_as_text() -> None:
    """Amounts travel as JSON numbers, which many readers round."""
    fold = rate_fold()
    fold.fold([chunk(0, [hourly(0, 2**53 + 1, 1), watermark(CLOSE)])], catalog())
    made = fold.changes()
    assert made is not None
    charge, close = (json.loads(output.value) for output in made.outputs)
    quantities = [charge[name] for name in ("quantity", "quantity_before", "quantity_after")]
    assert quantities == ["9007199254740993", "0", "9007199254740993"]
    assert charge["amount"] == close["amount"] == "720575940379279.440000"
    assert all(
        type(value) is str for slice_ in charge["slices"] for k, value in slice_.items() if k != "tier"
    )


@pytest.mark.parts
def test_stored_sums_do_not_wrap_and_count_a_row_once(deployment: Settings) -> None:
    """64-bit sums wrap around, and a reader that forgets to merge adds old versions to new ones."""
    large = 2**63 // ONE  # its micro-units fill 63 bits; three of them wrap around
    migrate(deployment.clickhouse(), deployment.database)
    batches = [[hourly(hour, quantity, at) for hour in range(3)] for at, quantity in ((1, 5), (2, large))]
    asyncio.run(_store(deployment, batches))
    with connect(deployment.clickhouse(), deployment.database) as client:
        found = client.query("SELECT count(), sum(quantity) FROM hourly_current").result_rows
    assert found == [(3, Decimal(3 * large))]


async def _store(settings: Settings, batches: list[list[bytes]]) -> None:
    writer = Writer(settings.clickhouse(), settings.database)
    try:
        for number, batch in enumerate(batches):
            made = [of_record(decode(value)) for value in batch]
            await writer.write(
                [row for row in made if row is not None], Place("usage.hourly", 0, number, number)
            )
    finally:
        await writer.close()
