"""Late usage of closed periods: adjustments that add up, at the old terms, in the next open period."""

from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metering.catalog.resolved import resolve
from metering.rating.charge import charge
from metering.rating.money import parse_quantity
from metering.records import Charge, HourlyTotal, PeriodClose, Watermark, encode, version
from metering.state.calendar import period
from metering.state.fold import Changes, Saved
from tests.state.folding import CATALOG, catalog, chunk, rate_fold, records

STARTS = {name: period(name).starts for name in ("2023-11", "2023-12", "2024-01")}
CLOSES = {name: (period(name).ends + 24 * 3600) * 1000 for name in STARTS}
TEXT = CATALOG
GRADUATED = TEXT.replace("model: volume", "model: graduated")


def total(month: str, hour: int, quantity: int, at: int, customer: str = "a") -> bytes:
    first = STARTS[month] + hour * 3600
    return encode(HourlyTotal(customer, "tokens", first, str(quantity), 1, str(version(1, at))))


def watermark(month: str) -> bytes:
    return encode(Watermark(0, CLOSES[month], str(version(1, 10**6))))


def restored(made: list[Changes]) -> Any:
    entries = {}
    for changes in made:
        for entry in changes.entries:
            entries[entry.key] = entry
            if entry.value is None:
                del entries[entry.key]
    fold = rate_fold()
    fold.restore(Saved(made[-1].offset, made[-1].header, list(entries.values()), []))
    return fold


def run(batches: list[list[bytes]], texts: list[str], *, restart: bool = False) -> list[Changes]:
    """Each batch under its catalog text; a changed text is a new revision."""
    fold, made, offset, revision = rate_fold(), [], 0, 0
    for number, batch in enumerate(batches):
        text = texts[min(number, len(texts) - 1)]
        if number == 0 or text != texts[min(number - 1, len(texts) - 1)]:
            revision += 1
            using = resolve(catalog(text).content, revision)
        fold.fold([chunk(offset, batch)], using)
        offset += len(batch)
        changes = fold.changes()
        if changes is not None:
            made.append(changes)
        if restart:
            fold = restored(made)
    return made


def current(made: list[Changes]) -> list[Charge]:
    held: dict[tuple[str, ...], Charge] = {}
    for row in records(made, "charges"):
        if isinstance(row, Charge):
            place = (row.customer, row.period, row.price, str(row.hour))
            if place not in held or int(row.version) >= int(held[place].version):
                held[place] = row
    return [row for row in held.values() if row.card]


def micro(text: str) -> int:
    return parse_quantity(text, 6)


usage = st.lists(
    st.tuples(st.sampled_from(["2023-11", "2023-12"]), st.integers(0, 5), st.integers(0, 900)),
    min_size=1,
    max_size=20,
)


@given(usage, st.integers(0, 20), st.integers(0, 20), st.booleans(), st.sampled_from([TEXT, GRADUATED]))
def test_rows_and_adjustments_add_up_to_the_charge_of_each_period(
    found: list[tuple[str, int, int]], first: int, second: int, restart: bool, text: str
) -> None:
    """Whenever the periods close, before or behind the usage, in one fold or through restarts."""
    values = [[total(month, hour, quantity, at)] for at, (month, hour, quantity) in enumerate(found)]
    values.insert(min(first, len(values)), [watermark("2023-11")])
    values.insert(min(max(first + 1, second), len(values)), [watermark("2023-12")])
    sums: defaultdict[str, int] = defaultdict(int)
    for row in current(run(values, [text], restart=restart)):
        sums[row.corrects or row.period] += micro(row.amount)
    terms = catalog(text).terms("a")
    assert terms is not None
    price = terms.agreement.segments("tokens")[0].price
    for month in ("2023-11", "2023-12"):
        used = sum({(m, h): q for m, h, q in found if m == month}.values())
        assert sums[month] == charge(price, micro(str(used)))


def late(*, texts: list[str] | None = None, restart: bool = False) -> list[Changes]:
    first = [total("2023-11", 0, 600, 1), watermark("2023-11")]
    return run([first, [total("2023-11", 0, 900, 2)]], texts or [TEXT], restart=restart)


def test_an_adjustment_that_is_needed_no_more_is_taken_back_by_every_owner() -> None:
    """One that published it before the usage was taken back, and one that never had to."""
    first = [total("2023-11", 0, 600, 1), watermark("2023-11")]
    values = [total("2023-11", 0, 900, 2), total("2023-11", 0, 600, 3)]
    replaced, owner = run([first, values[:1]], [TEXT]), run([first, values], [TEXT])
    assert [row.corrects for row in current(replaced + owner)] == [""]


def test_an_adjustment_stands_in_the_next_open_period_and_names_the_closed_one() -> None:
    (row,) = [r for r in current(late()) if r.corrects]
    assert (row.period, row.price, row.corrects, row.amount) == (
        "2023-12",
        "tokens@2023-11",
        "2023-11",
        "30.000000",
    )


def test_an_adjustment_is_rated_at_the_version_of_the_close() -> None:
    dearer = TEXT.replace('"0.10"', '"0.50"')
    (row,) = [r for r in current(late(texts=[TEXT, dearer], restart=True)) if r.corrects]
    assert row.amount == "30.000000"
    assert row.card_version == current(late())[0].card_version


def test_an_adjustment_explains_itself() -> None:
    (row,) = [r for r in current(late()) if r.corrects]
    assert [(s.label, s.units, s.amount) for s in row.slices] == [
        ("", "900", "90"),
        ("charged", "-600", "-60"),
    ]
    assert (row.quantity_before, row.quantity_after) == ("600", "900")


def test_late_usage_that_arrives_twice_is_adjusted_once() -> None:
    made = run(
        [
            [total("2023-11", 0, 600, 1), watermark("2023-11")],
            [total("2023-11", 0, 900, 2)],
            [total("2023-11", 0, 900, 2), total("2023-11", 0, 700, 1)],
        ],
        [TEXT],
    )
    assert [r.amount for r in current(made) if r.corrects] == ["30.000000"]


def test_an_adjustment_that_comes_to_nothing_is_taken_back() -> None:
    volume = [total("2023-11", 0, 1000, 1), watermark("2023-11")]  # 100; 1,250 × 0.08 = 100 again
    made = run([volume, [total("2023-11", 0, 1200, 2)], [total("2023-11", 0, 1250, 3)]], [TEXT])
    assert [r for r in current(made) if r.corrects] == []


def test_a_later_adjustment_goes_behind_the_next_close() -> None:
    made = run(
        [
            [total("2023-11", 0, 600, 1), watermark("2023-11")],
            [total("2023-11", 0, 700, 2), watermark("2023-12")],
            [total("2023-11", 0, 800, 3)],
        ],
        [TEXT],
        restart=True,
    )
    assert [(r.period, r.amount) for r in current(made) if r.corrects] == [
        ("2023-12", "10.000000"),
        ("2024-01", "10.000000"),
    ]


def test_the_close_of_the_next_period_counts_its_adjustments() -> None:
    made = run(
        [
            [total("2023-11", 0, 600, 1), watermark("2023-11")],
            [total("2023-11", 0, 700, 2), watermark("2023-12")],
        ],
        [TEXT],
    )
    closes = [r for r in records(made, "charges") if isinstance(r, PeriodClose)]
    assert [(c.period, c.rows, c.amount) for c in closes] == [
        ("2023-11", 1, "60.000000"),
        ("2023-12", 1, "10.000000"),
    ]


def test_usage_of_a_customer_that_had_none_in_the_closed_period_is_charged_too() -> None:
    made = run(
        [[total("2023-11", 0, 600, 1), watermark("2023-11")], [total("2023-11", 0, 10, 2, customer="b")]],
        [TEXT],
    )
    assert [(r.customer, r.amount) for r in current(made) if r.corrects] == [("b", "1.000000")]


CONTRACT = GRADUATED.replace("meter: tokens\n", "meter: tokens\n            scope: contract\n")


def test_tiers_of_a_contract_go_on_through_periods() -> None:
    made = run(
        [[total("2023-11", 0, 900, 1), watermark("2023-11")], [total("2023-12", 0, 200, 2)]], [CONTRACT]
    )
    amounts = [r.amount for r in current(made) if r.price == "tokens"]
    assert amounts == ["90.000000", "18.000000"]  # 100 × 0.10 + 100 × 0.08


def test_late_usage_moves_the_tiers_of_a_contract_in_later_periods() -> None:
    made = run(
        [
            [total("2023-11", 0, 900, 1), watermark("2023-11"), total("2023-12", 0, 200, 2)],
            [total("2023-11", 0, 950, 3)],
        ],
        [CONTRACT],
        restart=True,
    )
    found = {(r.price, r.period): r.amount for r in current(made)}
    assert found["tokens@2023-11", "2023-12"] == "5.000000"
    assert found["tokens", "2023-12"] == "17.000000"  # 50 × 0.10 + 150 × 0.08


@given(usage, st.integers(0, 20))
def test_a_contract_adds_up_whatever_is_late(found: list[tuple[str, int, int]], first: int) -> None:
    values = [[total(month, hour, quantity, at)] for at, (month, hour, quantity) in enumerate(found)]
    values.insert(min(first, len(values)), [watermark("2023-11")])
    rows = current(run(values, [CONTRACT], restart=True))
    terms = catalog(CONTRACT).terms("a")
    assert terms is not None
    price = terms.agreement.segments("tokens")[0].price
    used = sum({(m, h): q for m, h, q in found}.values())
    assert sum(micro(r.amount) for r in rows) == charge(price, micro(str(used)))


FEES = TEXT.replace(
    "        prices:\n", '        prices:\n          - {id: base, model: flat, amount: "30"}\n'
).replace("rate_card: card}", 'rate_card: card, minimum: {amount: "100"}}')


def fees(text: str, *values: bytes) -> dict[tuple[str, str, str], str]:
    found = current(run([[value] for value in values], [text]))
    return {(r.customer, r.period, r.price): r.amount for r in found}


def test_fees_are_charged_without_usage_from_the_first_period_on() -> None:
    found = fees(FEES, watermark("2023-11"))
    assert found["b", "2023-12", "base"] == "30.000000"
    assert ("b", "2023-10", "base") not in found


def test_a_minimum_is_trued_up_when_the_period_closes() -> None:
    found = fees(FEES, total("2023-11", 0, 600, 1), watermark("2023-11"), watermark("2023-12"))
    assert found["a", "2023-11", "minimum"] == "10.000000"  # 100 less 30 less 600 × 0.10
    assert found["b", "2023-12", "minimum"] == "70.000000"


def test_a_late_event_lowers_the_true_up_that_was_charged() -> None:
    found = fees(FEES, total("2023-11", 0, 600, 1), watermark("2023-11"), total("2023-11", 0, 650, 2))
    assert found["a", "2023-12", "tokens@2023-11"] == "5.000000"
    assert found["a", "2023-12", "minimum@2023-11"] == "-5.000000"
