"""The rate fold: rows that add up, stale replays ignored, catalog changes, closes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.catalog.resolved import Catalog, resolve
from metering.rating.charge import charge
from metering.rating.money import format_micro, parse_quantity
from metering.records import Charge, HourlyTotal, PeriodClose, RatingError, Watermark, encode, version
from metering.state.fold import Changes, Saved
from metering.state.postings import close_digest
from tests.state.folding import CATALOG as TEXT
from tests.state.folding import HOUR, NOW, START, catalog, chunk, rate_fold, records

CATALOG = catalog()


def total(hour: int, quantity: int, at: int, customer: str = "a", meter: str = "tokens") -> bytes:
    first = START // 1000 + hour * 3600
    return encode(HourlyTotal(customer, meter, first, str(quantity), 1, str(version(1, at))))


def watermark(time: int) -> bytes:
    return encode(Watermark(0, time, str(version(1, 10**6))))


def revision(text: str, number: int) -> Catalog:
    return resolve(catalog(text).content, revision=number)


def current(made: list[Changes]) -> dict[tuple[str, int], Charge]:
    held: dict[tuple[str, int], Charge] = {}
    for row in records(made, "charges"):
        if isinstance(row, Charge):
            place = (row.price, row.hour)
            if place not in held or int(row.version) >= int(held[place].version):
                held[place] = row
    return {k: v for k, v in held.items() if v.card}


def run(batches: list[list[bytes]], using: Catalog = CATALOG, *, restart: bool = False) -> list[Changes]:
    fold, made, offset = rate_fold(), [], 0
    for batch in batches:
        fold.fold([chunk(offset, batch)], using)
        offset += len(batch)
        changes = fold.changes()
        assert changes is not None
        made.append(changes)
        if restart:
            fold = restored(made)
    return made


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


updates = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 900)), min_size=1, max_size=25)


@given(updates, st.integers(1, 25), st.booleans())
def test_rows_add_up_to_the_charge_of_the_whole(
    found: list[tuple[int, int]], size: int, restart: bool
) -> None:
    values = [total(hour, quantity, at) for at, (hour, quantity) in enumerate(found)]
    made = run([values[i : i + size] for i in range(0, len(values), size)], restart=restart)
    latest = dict(found)
    terms = CATALOG.terms("a")
    assert terms is not None
    price = terms.agreement.segments("tokens")[0].price
    expected = charge(price, parse_quantity(sum(latest.values()), 6))
    assert sum(parse_quantity(r.amount, 6) for r in current(made).values()) == expected


@given(updates, st.randoms(use_true_random=False))
def test_stale_and_second_copies_change_nothing(found: list[tuple[int, int]], chance: Any) -> None:
    values = [total(hour, quantity, at) for at, (hour, quantity) in enumerate(found)]
    again = values + chance.sample(values, k=len(values))
    plain = {k: v.amount for k, v in current(run([values])).items()}
    assert {k: v.amount for k, v in current(run([values, again])).items()} == plain


def test_only_rows_that_changed_are_posted_again() -> None:
    made = run([[total(0, 10, 1), total(1, 10, 2)], [total(2, 10, 3)]])
    assert [r.hour for r in records(made[1:], "charges")] == [START // 1000 + 2 * 3600]


def test_late_usage_rates_the_later_hours_again() -> None:
    made = run([[total(0, 600, 1), total(1, 300, 2)], [total(0, 800, 3)]])
    assert [r.amount for r in records(made[1:], "charges")] == ["80.000000", "8.000000"]


def test_a_new_catalog_revision_rates_open_periods_again_at_the_same_position() -> None:
    fold = rate_fold()
    fold.fold([chunk(0, [total(0, 10, 1)])], revision(TEXT, 1))
    first = fold.changes()
    fold.adopt(revision(TEXT.replace('"0.10"', '"0.20"'), 2))
    second = fold.changes()
    (old,), (new,) = records([first], "charges"), records([second], "charges")
    assert (old.amount, new.amount) == ("1.000000", "2.000000")
    assert int(new.version) > int(old.version)


def test_what_was_rated_under_a_newer_revision_wins_whoever_is_further_in_the_log() -> None:
    """A worker that slept through a catalog goes on for a moment behind the one that replaced it."""
    newer, older = rate_fold(), rate_fold()
    newer.fold([chunk(0, [total(0, 10, 1)])], revision(TEXT.replace('"0.10"', '"0.20"'), 2))
    older.fold([chunk(0, [total(0, 10, 1), total(1, 10, 2)])], revision(TEXT, 1))
    made = [newer.changes(), older.changes()]
    place = ("tokens", START // 1000)
    assert current(made)[place].amount == "2.000000"  # type: ignore[arg-type]


@given(updates, st.integers(1, 25), st.booleans())
def test_the_version_of_a_row_does_not_depend_on_where_checkpoints_cut_the_log(
    found: list[tuple[int, int]], size: int, restart: bool
) -> None:
    values = [total(hour, quantity, at) for at, (hour, quantity) in enumerate(found)]
    cut = run([values[i : i + size] for i in range(0, len(values), size)], restart=restart)
    assert current(cut) == current(run([values]))


def test_a_row_that_comes_out_as_it_was_is_posted_again() -> None:
    """Another owner may have published what it was in between, further in the log."""
    fold = rate_fold()
    fold.fold([chunk(0, [total(0, 10, 1), total(1, 10, 2)])], CATALOG)
    first = fold.changes()
    other = restored([first])
    fold.fold([chunk(2, [total(0, 30, 3), total(0, 10, 4)])], CATALOG)
    other.fold([chunk(2, [total(0, 30, 3)])], CATALOG)
    made = [first, other.changes(), fold.changes()]
    assert [row.quantity_after for row in current(made).values()] == ["10", "20"]  # type: ignore[arg-type]


def test_a_restored_state_adopts_a_newer_catalog_without_new_input() -> None:
    made = run([[total(0, 10, 1)]], revision(TEXT, 1))
    fold = restored(made)
    fold.adopt(revision(TEXT.replace('"0.10"', '"0.20"'), 2))
    assert [row.amount for row in records([fold.changes()], "charges")] == ["2.000000"]


def test_a_price_under_a_new_name_takes_the_old_row_back() -> None:
    fold = rate_fold()
    fold.fold([chunk(0, [total(0, 10, 1)])], revision(TEXT, 1))
    made = [fold.changes()]
    fold.adopt(
        revision(TEXT.replace("- id: tokens\n            meter", "- id: renamed\n            meter"), 2)
    )
    made.append(fold.changes())
    assert {price for price, _ in current(made)} == {"renamed"}  # type: ignore[arg-type]


NO_PRICE = TEXT.replace(
    "2023-01-01T00:00:00Z\n        prices", "2023-11-01T03:00:00Z\n        prices"
).replace("start: 2023-01-01", "start: 2023-12-01")


def test_usage_without_a_price_is_an_error_row_and_never_zero() -> None:
    (row,) = records(run([[total(0, 10, 1)]], catalog(NO_PRICE)), "charges")
    assert isinstance(row, RatingError)
    assert (row.reason, row.quantity) == ("no_price", "10")


def test_an_error_is_withdrawn_once_there_is_a_price() -> None:
    fold = rate_fold()
    fold.fold([chunk(0, [total(0, 10, 1)])], revision(NO_PRICE, 1))
    fold.changes()
    fold.adopt(revision(TEXT, 2))
    withdrawn, charged = records([fold.changes()], "charges")
    assert (withdrawn.reason, charged.amount) == ("", "1.000000")


def test_a_meter_that_is_not_charged_has_no_rows() -> None:
    text = TEXT.replace('          - {id: calls, meter: calls, model: unit, unit_price: "0.0000014"}\n', "")
    text = text.replace('unit_price: "0.08"}]\n', 'unit_price: "0.08"}]\n        not_charged: [calls]\n')
    assert records(run([[total(0, 10, 1, meter="calls")]], catalog(text)), "charges") == []


def close_of(made: list[Changes]) -> PeriodClose:
    (close,) = [r for r in records(made, "charges") if isinstance(r, PeriodClose)]
    return close


def test_the_close_record_describes_the_charges_before_it() -> None:
    made = run([[total(0, 600, 1), total(1, 600, 2)], [watermark(NOW)]])
    rows = current(made)
    close = close_of(made)
    amounts = [(r.price, r.hour, parse_quantity(r.amount, 6)) for r in rows.values()]
    assert (close.rows, close.amount) == (2, format_micro(sum(a for _, _, a in amounts)))
    assert close.digest == close_digest(amounts)


def test_the_close_record_stands_behind_the_last_charge() -> None:
    made = run([[total(0, 600, 1), watermark(NOW)]])
    assert [type(r) for r in records(made, "charges")] == [Charge, PeriodClose]


def test_a_period_stays_open_until_its_grace_is_over() -> None:
    end = START + 30 * 24 * HOUR
    made = run([[total(0, 1, 1), watermark(end + 24 * HOUR - 1)]])
    assert not [r for r in records(made, "charges") if isinstance(r, PeriodClose)]
    made = run([[total(0, 1, 1), watermark(end + 24 * HOUR)]])
    assert close_of(made).period == "2023-11"


def test_rows_of_a_closed_period_never_change() -> None:
    made = run([[total(0, 600, 1), watermark(NOW)], [total(0, 900, 9), total(1, 5, 10)]], restart=True)
    assert [r.period for r in records(made[1:], "charges")] == ["2023-12"]


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_period_closes_at_its_watermark_wherever_a_checkpoint_falls(cut: int) -> None:
    """Two workers that fold one log, one of them replaced by the other, must close it alike."""
    log = [total(0, 600, 1), watermark(NOW), total(0, 900, 2), total(1, 5, 3), watermark(NOW), watermark(NOW)]
    whole, parts = run([log]), run([log[:cut], log[cut:]], restart=True)
    assert close_of(parts) == close_of(whole)
    assert [(p, r.amount) for p, r in current(parts).items()] == [
        (p, r.amount) for p, r in current(whole).items()
    ]


def test_usage_of_a_month_that_was_over_before_it_was_seen_is_an_adjustment_in_the_open_one() -> None:
    made = run([[watermark(NOW), total(0, 600, 1)], [total(0, 900, 2), watermark(NOW)]])
    (row,) = [r for r in current(made).values() if isinstance(r, Charge)]
    assert (row.period, row.corrects, row.amount) == ("2023-12", "2023-11", "90.000000")


def test_a_month_that_begins_with_usage_has_the_fees_of_everyone() -> None:
    flat = 'prices:\n          - {id: base, model: flat, amount: "30"}'
    made = run([[total(0, 10, 1), watermark(START + HOUR)]], catalog(TEXT.replace("prices:", flat)))
    assert {r.customer for r in records(made, "charges") if r.price == "base"} == {"a", "b"}


def test_errors_are_counted_in_the_close() -> None:
    made = run([[total(0, 10, 1), watermark(NOW)]], catalog(NO_PRICE))
    assert (close_of(made).errors, close_of(made).rows) == (1, 0)
