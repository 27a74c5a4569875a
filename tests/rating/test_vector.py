"""The numpy path of F equals the integer reference, to the micro-unit and up to the last int64."""

from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.rating import vector
from metering.rating.cards import ONE, Cell, Discount, EventFee, Model, Price, Tier
from metering.rating.charge import charge
from metering.rating.vector import charges, hourly_charges

LARGEST = 2**63 - 1
SINGLE = ("unit", "package", "percentage")
PACKED = ("package", "graduated_package")
EDGES = [0, 1, ONE - 1, ONE, 2**53, 2**62, 2**63]
amounts = st.one_of(
    st.integers(0, 10**13),
    st.integers(0, 10**6).map(lambda n: n * 10**9),
    st.sampled_from([0, 1, 2**31, 2**61, 2**62, 2**64]),
)
bounds = st.one_of(
    st.integers(1, 5_000 * ONE),
    st.integers(1, 5_000).map(lambda n: n * ONE),
    st.sampled_from([1, 2**53, 2**62, LARGEST - 1, LARGEST, 2**63, 2**64]),
)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    model = draw(st.sampled_from(sorted(vector.MODELS)))
    ends = [] if model in SINGLE else sorted(draw(st.sets(bounds, max_size=4)))
    return Price(
        model,  # type: ignore[arg-type]
        tuple(Tier(end, draw(amounts), draw(st.one_of(st.just(0), amounts))) for end in [*ends, None]),
        included=draw(st.one_of(st.just(0), bounds)),
        package=draw(bounds) if model in PACKED else 0,
        min_packages=draw(st.one_of(st.just(0), st.integers(-1, 20), amounts)) if model in PACKED else 0,
        maximum=draw(st.one_of(st.none(), amounts)),
    )


def quantities(price: Price) -> st.SearchStrategy[int]:
    ends = [tier.up_to or 0 for tier in price.tiers]
    edges = [*EDGES, *ends, *(price.included + end for end in ends), price.package]
    near = [q + step for q in edges for step in (-1, 0, 1)]
    kept = sorted({q for q in near if -LARGEST <= q <= LARGEST} | {-LARGEST - 1})
    return st.one_of(
        st.sampled_from(kept),
        st.integers(-ONE, 6_000 * ONE),
        st.integers(-1, 6_000).map(lambda units: units * ONE),
        st.integers(0, LARGEST),
    )


def array(values: list[int]) -> vector.Ints:
    return np.array(values, np.int64)


def fits(values: list[int]) -> bool:
    return all(-LARGEST - 1 <= value <= LARGEST for value in values)


def agrees(price: Price, used: list[int]) -> None:
    """Equal to the reference, or OverflowError where that does not fit."""
    expected = [charge(price, quantity) for quantity in used]
    if fits(expected):
        assert charges(price, array(used)).tolist() == expected
    else:
        with pytest.raises(OverflowError):
            charges(price, array(used))


@given(prices(), st.data())
def test_one_charge_is_that_of_the_reference(price: Price, data: st.DataObject) -> None:
    agrees(price, [data.draw(quantities(price))])


@given(prices(), st.data())
def test_charges_do_not_depend_on_their_neighbours(price: Price, data: st.DataObject) -> None:
    agrees(price, data.draw(st.lists(quantities(price), max_size=12)))


@given(prices(), st.lists(st.integers(-1, 10_000).map(lambda units: units * ONE), min_size=1, max_size=12))
def test_whole_units_are_those_of_the_reference(price: Price, used: list[int]) -> None:
    agrees(price, used)


@given(prices(), st.sampled_from(["direct", "whole", "split"]), st.data())
def test_each_path_holds_up_to_its_limit(price: Price, path: str, data: st.DataObject) -> None:
    plan = vector._plan(price)
    assert plan is not None or price.package > vector.SAFE
    limit = getattr(plan, path).limit if plan else LARGEST
    edges = [limit, limit // ONE * ONE, min(limit + 1, LARGEST), data.draw(st.integers(0, limit))]
    for quantity in edges:
        agrees(price, [quantity])


@given(prices(), st.integers(1, 4), st.data())
def test_an_hour_is_the_difference_of_two_charges(price: Price, keys: int, data: st.DataObject) -> None:
    size = st.lists(quantities(price), min_size=3, max_size=3)
    totals = data.draw(st.lists(size, min_size=keys, max_size=keys))
    amounts = [[charge(price, q) for q in accumulate(used)] for used in totals]
    expected = [[after - before for before, after in pairwise([0, *row])] for row in amounts]
    if fits([amount for row in expected for amount in row]):
        assert hourly_charges(price, array(totals)).tolist() == expected  # type: ignore[arg-type]
    else:
        with pytest.raises(OverflowError):
            hourly_charges(price, array(totals))  # type: ignore[arg-type]


GRADUATED = Price(
    "graduated", (Tier(10**9, 10**11 + 7), Tier(10**11, 8 * 10**10 + 3), Tier(None, 5 * 10**10))
)


@given(st.lists(st.lists(st.integers(0, 10**10), min_size=24, max_size=24), min_size=1, max_size=5))
def test_hours_add_up_to_the_charge_of_the_whole(totals: list[list[int]]) -> None:
    rows = hourly_charges(GRADUATED, array(totals))  # type: ignore[arg-type]
    assert rows.sum(axis=1).tolist() == [charge(GRADUATED, sum(used)) for used in totals]


def test_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "BLOCK", 7)
    used = list(range(0, 200_000_000_000, 1_999_999_999))
    agrees(GRADUATED, used)
    agrees(GRADUATED, used[:7])


def test_keys_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    totals = array(list(range(10**9, 10**9 + 60))).reshape(12, 5)
    expected = hourly_charges(GRADUATED, totals).tolist()
    monkeypatch.setattr(vector, "BLOCK", 11)
    assert hourly_charges(GRADUATED, totals).tolist() == expected


def test_ordinary_usage_never_leaves_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> int:
        raise AssertionError("went to the reference")

    monkeypatch.setattr(vector, "charge", unwanted)
    month = np.full((40, 744), 123_456_789, np.int64)
    assert hourly_charges(GRADUATED, month).sum() > 0


def test_one_large_quantity_does_not_slow_down_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noted(price: Price, quantity: int) -> int:
        seen.append(quantity)
        return charge(price, quantity)

    monkeypatch.setattr(vector, "charge", noted)
    charges(GRADUATED, array([5, 2**61, 7]))
    assert seen == [2**61]


def test_a_charge_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(OverflowError):
        charges(Price("unit", (Tier(None, 10**13),)), array([LARGEST]))


def test_hours_fit_where_the_sum_does_not() -> None:
    price = Price("unit", (Tier(None, 10**12),))
    assert hourly_charges(price, array([LARGEST, LARGEST]).reshape(1, 2)).tolist() == [[LARGEST, LARGEST]]


def test_hours_fit_where_the_charge_of_the_whole_does_not() -> None:
    price = Price("unit", (Tier(None, 2 * 10**12),))
    assert hourly_charges(price, array([2**61, 2**61]).reshape(1, 2)).tolist() == [[2**62, 2**62]]


OTHERS = [
    replace(GRADUATED, discounts=(Discount("d", percent=123_456),)),
    replace(GRADUATED, cap=5 * ONE),
    replace(GRADUATED, conversion=3 * 10**11),
    replace(GRADUATED, tiers=(Tier(None, -(10**11) - 7),)),
    replace(GRADUATED, included=-ONE),
    Price("percentage", (Tier(None, 29 * 10**9),), event=EventFee(fixed=300_000)),
    Price("capacity", (Tier(None, 0, 7 * ONE),)),
    Price("graduated", dimensions=("region",), cells=(Cell((), (Tier(None, 10**11),)),)),
]


@pytest.mark.parametrize("price", OTHERS, ids=range(len(OTHERS)))
def test_every_other_price_goes_through_the_reference(price: Price) -> None:
    agrees(price, [-5, 0, 1, 999_999, 10**9, 10**12 + 1])


def test_a_price_of_single_events_is_refused_as_in_the_reference() -> None:
    with pytest.raises(ValueError, match="each"):
        charges(replace(GRADUATED, scope="event"), array([1]))


@pytest.mark.parametrize("model", sorted(vector.MODELS))
def test_less_than_nothing_costs_nothing(model: Model) -> None:
    price = Price(model, (Tier(None, 10**11, 5),), package=ONE if model in PACKED else 0, min_packages=3)
    assert charges(price, array([-LARGEST - 1, -ONE, 0])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("unit_price", [5 * 10**5, 10**12 + 5 * 10**5, 10**6 - 1])
def test_half_a_micro_unit_is_rounded_up(unit_price: int) -> None:
    agrees(Price("unit", (Tier(None, unit_price),)), [ONE, 3 * ONE, 2_000_001 * ONE, 10**15 + ONE])


def test_a_cheap_tier_does_not_hide_the_limit_of_a_dear_one() -> None:
    price = Price("volume", (Tier(2**60, 10**13 + 1), Tier(None, 1)))
    agrees(price, [2**35, 2**45, 2**50, 2**59, 2**61])


def test_more_packages_than_int64_holds_can_be_the_least() -> None:
    agrees(Price("package", (Tier(None, 1),), package=1, min_packages=2**64), [0, 1, 2])


def test_the_shape_stays() -> None:
    grid = array(list(range(24))).reshape(2, 3, 4)
    assert charges(GRADUATED, grid).shape == (2, 3, 4)


def test_a_view_is_read_in_its_own_order() -> None:
    grid = array([ONE * n for n in range(12)]).reshape(3, 4)
    assert charges(GRADUATED, grid.T).tolist() == charges(GRADUATED, grid).T.tolist()


def test_no_quantities_have_no_charges() -> None:
    assert hourly_charges(GRADUATED, np.empty((3, 0), np.int64)).shape == (3, 0)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint64, ">i8"])
def test_only_int64_enters(dtype: str) -> None:
    with pytest.raises(TypeError, match="int64"):
        charges(GRADUATED, np.ones(3, dtype))
