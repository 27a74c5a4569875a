"""Agreements: who wins, where spans are cut, what a version's hash stands for; what a new catalog changes."""

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metering.catalog.diff import affected, differences
from metering.catalog.load import load_texts
from metering.catalog.resolved import Catalog
from metering.rating.cards import RATE_ONE, Discount, Minimum, Price
from metering.rating.terms import Agreement, Span

JANUARY, FEBRUARY, MARCH = (f"2023-{month:02}-01T00:00:00Z" for month in (1, 2, 3))
LAYERS = ["plan", "contract", "customer"]  # the later one wins
BASE: dict[str, Any] = {
    "meters": [
        {"id": "m", "event_type": "t", "aggregation": "sum", "value": "n"},
        {"id": "k", "event_type": "t", "aggregation": "count"},
    ],
    "rate_cards": [
        {
            "id": "card",
            "currency": "USD",
            "versions": [
                {
                    "from": JANUARY,
                    "not_charged": ["k"],
                    "prices": [
                        {"id": "p", "meter": "m", "model": "unit", "unit_price": "1", "included": 5},
                        {"id": "fee", "model": "flat", "amount": "20"},
                    ],
                }
            ],
        }
    ],
    "plans": [{"id": "plan", "name": "Plan", "rate_card": "card"}],
    "contracts": [{"id": "contract"}],
    "customers": [
        {
            "id": "a",
            "name": "A",
            "plan": "plan",
            "contract": "contract",
            "currency": "USD",
            "start": JANUARY,
        }
    ],
}


class Content:
    """The base catalog with changes; `plan`, `contract`, `customer`, `version` are its only ones."""

    def __init__(self) -> None:
        self.all: dict[str, Any] = copy.deepcopy(BASE)
        self.layers = {
            "plan": self.all["plans"][0],
            "contract": self.all["contracts"][0],
            "customer": self.all["customers"][0],
        }
        self.plan, self.contract, self.customer = self.layers.values()
        self.versions: list[Any] = self.all["rate_cards"][0]["versions"]
        self.version = self.versions[0]
        self.price, self.fee = self.version["prices"]

    def add_version(self, starts: str, **changes: Any) -> dict[str, Any]:
        """A copy of the first version from an instant on."""
        made = {**copy.deepcopy(self.version), "from": starts, **changes}
        self.versions.append(made)
        return made

    def add_card(self, name: str, unit_price: str) -> None:
        """A second card with a plan of the same id."""
        card = copy.deepcopy(self.all["rate_cards"][0]) | {"id": name}
        card["versions"][0]["prices"][0]["unit_price"] = unit_price
        self.all["rate_cards"].append(card)
        self.all["plans"].append({"id": name, "name": name, "rate_card": name})

    def add_customer(self, name: str, **changes: Any) -> None:
        """A copy of the customer."""
        self.all["customers"].append(copy.deepcopy(self.customer) | {"id": name, "name": name} | changes)

    def load(self) -> Catalog:
        return load_texts({"catalog.yaml": yaml.safe_dump(self.all, sort_keys=False)})


def override(price: str = "p", **fields: Any) -> dict[str, Any]:
    return {"price": price, "set": fields}


def agreement(content: Content, customer: str = "a") -> Agreement:
    terms = content.load().terms(customer)
    assert terms is not None
    return terms.agreement


def span(content: Content) -> Span:
    (only,) = agreement(content).spans
    return only


def unit_price(price: Price) -> str:
    return str(price.tiers[0].unit_price // RATE_ONE)


def seconds(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp())


def cuts(content: Content) -> list[str]:
    starts = [datetime.fromtimestamp(s.starts, UTC) for s in agreement(content).spans]
    return [f"{start:%Y-%m-%dT%H:%M:%SZ}" for start in starts]


# -- who wins ------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(LAYERS), st.integers(2, 9)))
def test_a_customer_wins_over_contract_over_plan_over_card(wanted: dict[str, int]) -> None:
    content = Content()
    for layer, value in wanted.items():
        content.layers[layer]["overrides"] = [override(unit_price=str(value))]
    closest = next((wanted[layer] for layer in reversed(LAYERS) if layer in wanted), 1)
    assert unit_price(span(content).prices["p"]) == str(closest)


def test_each_layer_changes_only_the_fields_that_it_names() -> None:
    content = Content()
    content.plan["overrides"] = [override(unit_price="2")]
    content.contract["overrides"] = [override(cap="30")]
    content.customer["overrides"] = [override(maximum="40")]
    price = span(content).prices["p"]
    assert (unit_price(price), price.cap, price.maximum) == ("2", 30_000_000, 40_000_000)
    assert price.included == 5_000_000


def test_an_override_that_replaces_drops_what_it_does_not_name() -> None:
    content = Content()
    content.customer["overrides"] = [override(meter="m", model="unit", unit_price="3") | {"replace": True}]
    assert span(content).prices["p"].included == 0


def test_an_override_of_the_model_keeps_only_the_meter() -> None:
    content = Content()
    content.customer["overrides"] = [override(model="package", package_size=10, unit_price="3")]
    price = span(content).prices["p"]
    assert (price.model, price.meters, price.included) == ("package", (("m", 1_000_000),), 0)


def test_an_override_can_add_a_price_of_a_meter_that_was_free() -> None:
    content = Content()
    added = override("calls", meter="k", model="unit", unit_price="3") | {"replace": True}
    content.contract["overrides"] = [added]
    assert span(content).by_meter == {"m": ("p",), "k": ("calls",)}


def test_an_override_of_a_fee_reaches_the_fee() -> None:
    content = Content()
    content.customer["overrides"] = [override("fee", amount="7", billed="arrears")]
    fee = span(content).flats["fee"]
    assert (fee.amount, fee.arrears) == (7_000_000, True)


def test_the_closest_cap_and_minimum_are_in_force() -> None:
    content = Content()
    content.plan |= {"cap": "100", "minimum": {"amount": "10"}}
    content.contract |= {"cap": "90"}
    content.customer |= {"minimum": {"id": "floor", "amount": "30", "prorate": False}}
    found = span(content)
    assert found.cap == 90_000_000
    assert found.minimums == (Minimum("floor", 30_000_000, (), prorated=False),)


def test_discounts_of_all_layers_add_up_and_the_closest_of_an_id_wins() -> None:
    content = Content()
    content.plan["discounts"] = [{"id": "b", "percent": 10}, {"id": "a", "amount": "5"}]
    content.customer["discounts"] = [{"id": "b", "percent": "12.5"}]
    assert span(content).discounts == (Discount("a", amount=5_000_000), Discount("b", percent=125_000))


def test_a_minimum_of_a_price_has_an_id_of_its_own() -> None:
    content = Content()
    content.price["minimum"] = "15"
    content.plan["minimum"] = {"amount": "50"}
    own, whole = span(content).minimums
    assert own == Minimum("p:minimum", 15_000_000, ("p",))
    assert whole == Minimum("minimum", 50_000_000)


def test_shares_stand_behind_those_that_they_read() -> None:
    content = Content()
    for name, of in {"s1": ["s2", "p"], "s2": ["s3"], "s3": ["fee"], "s4": []}.items():
        content.version["prices"].append({"id": name, "model": "percent_of", "rate": "3", "of": of})
    order = list(span(content).shares)
    assert sorted(order) == ["s1", "s2", "s3", "s4"]
    assert order.index("s3") < order.index("s2") < order.index("s1")


# -- where spans are cut -------------------------------------------------------------------------


def test_a_dated_override_is_in_force_from_its_start_until_its_end() -> None:
    content = Content()
    content.customer["overrides"] = [override(unit_price="2") | {"from": FEBRUARY, "to": MARCH}]
    assert cuts(content) == [JANUARY, FEBRUARY, MARCH]
    found = agreement(content)
    for starts, price in ((JANUARY, "1"), (FEBRUARY, "2"), (MARCH, "1")):
        there = found.at(seconds(starts))
        assert there is not None
        assert unit_price(there.prices["p"]) == price
    before = found.at(seconds(MARCH) - 1)
    assert before is not None
    assert unit_price(before.prices["p"]) == "2"


HOURS = st.integers(1, 50)
WINDOWS = st.tuples(st.none() | HOURS, st.none() | HOURS).filter(
    lambda w: w[0] is None or w[1] is None or w[0] < w[1]
)


@given(st.dictionaries(st.sampled_from(LAYERS), WINDOWS), st.integers(0, 60))
def test_at_every_instant_the_closest_override_in_force_wins(
    windows: dict[str, tuple[int | None, int | None]], hour: int
) -> None:
    content = Content()
    first = datetime.fromisoformat(JANUARY)
    for number, (layer, window) in enumerate(windows.items(), 2):
        names = ("from", "to")
        dates = {n: first + timedelta(hours=h) for n, h in zip(names, window, strict=True) if h is not None}
        content.layers[layer]["overrides"] = [override(unit_price=str(number)) | dates]
    wanted, held = 1, -1
    for number, (layer, (starts, ends)) in enumerate(windows.items(), 2):
        is_active = (starts is None or starts <= hour) and (ends is None or hour < ends)
        if is_active and LAYERS.index(layer) > held:
            wanted, held = number, LAYERS.index(layer)
    there = agreement(content).at(seconds(JANUARY) + hour * 3600)
    assert there is not None
    assert unit_price(there.prices["p"]) == str(wanted)


def test_spans_follow_each_other_without_a_gap() -> None:
    content = Content()
    content.add_version(MARCH)
    content.customer["overrides"] = [override(unit_price="2") | {"from": FEBRUARY}]
    spans = agreement(content).spans
    assert [s.ends for s in spans] == [*(s.starts for s in spans[1:]), None]


def test_a_cut_that_changes_nothing_does_not_cut_a_price() -> None:
    content = Content()
    content.customer["overrides"] = [override("fee", amount="20") | {"from": FEBRUARY, "to": MARCH}]
    assert len(agreement(content).spans) == 3
    assert len(agreement(content).segments("p")) == 1


UNIT = {
    "id": "credit",
    "rates": [
        {"from": JANUARY, "currency": "USD", "rate": "0.04"},
        {"from": JANUARY, "currency": "EUR", "rate": "0.03"},
        {"from": "2023-01-15T00:00:00Z", "currency": "EUR", "rate": "0.02"},
        {"from": FEBRUARY, "currency": "USD", "rate": "0.05"},
    ],
}


def test_a_new_rate_of_a_unit_cuts_a_span() -> None:
    content = Content()
    content.all["units"] = [UNIT]
    content.price["unit"] = "credit"
    assert cuts(content) == [JANUARY, FEBRUARY]
    january, february = agreement(content).segments("p")
    assert (january.price.conversion, february.price.conversion) == (4 * 10**10, 5 * 10**10)
    assert january.origin.version != february.origin.version


def test_a_new_rate_of_a_unit_that_no_price_uses_changes_no_version() -> None:
    content = Content()
    content.all["units"] = [UNIT]
    first, second = agreement(content).spans
    assert first.origin == second.origin


# -- change policies, phases ---------------------------------------------------------------------


@pytest.mark.parametrize("change", ["continue", "reset", "retroactive"])
def test_the_policy_of_a_version_reaches_its_span(change: str) -> None:
    content = Content()
    content.add_version(FEBRUARY, change=change)
    assert [s.change for s in agreement(content).spans] == ["continue", change]


@pytest.mark.parametrize("change", ["continue", "reset", "retroactive"])
def test_the_policy_of_a_version_holds_at_its_own_instant_only(change: str) -> None:
    content = Content()
    content.add_version(FEBRUARY, change=change)
    content.customer["overrides"] = [override(unit_price="2") | {"from": MARCH}]
    assert [s.change for s in agreement(content).spans] == ["continue", change, "continue"]


def test_a_customer_that_starts_at_a_switch_leaves_its_policy_to_the_others() -> None:
    content = Content()
    content.add_version(FEBRUARY, change="reset")
    content.add_customer("0", start=FEBRUARY)  # the first of those who share the agreement
    assert [s.change for s in agreement(content).spans] == ["continue", "reset"]


@pytest.mark.parametrize("change", ["continue", "reset", "retroactive"])
def test_a_sequence_of_plans_takes_each_card_with_its_policy(change: str) -> None:
    content = Content()
    content.add_card("next", "4")
    del content.customer["plan"]
    content.customer["plans"] = [
        {"plan": "plan", "from": JANUARY},
        {"plan": "next", "from": FEBRUARY, "change": change},
        {"plan": "plan", "from": MARCH},
    ]
    spans = agreement(content).spans
    assert [s.origin.card for s in spans] == ["card", "next", "card"]
    assert [unit_price(s.prices["p"]) for s in spans] == ["1", "4", "1"]
    assert [s.change for s in spans] == ["continue", change, "continue"]


def test_a_version_of_a_plan_that_is_not_in_force_has_no_say() -> None:
    content = Content()
    content.add_card("next", "4")
    content.add_version(MARCH, change="reset")
    del content.customer["plan"]
    content.customer["plans"] = [{"plan": "plan", "from": JANUARY}, {"plan": "next", "from": FEBRUARY}]
    last = agreement(content).spans[-1]
    assert (last.origin.card, last.change) == ("next", "continue")


def test_what_is_free_in_a_version_is_free_in_its_span_only() -> None:
    content = Content()
    made = content.add_version(FEBRUARY, not_charged=[])
    made["prices"].append({"id": "calls", "meter": "k", "model": "unit", "unit_price": "1"})
    assert [sorted(s.free) for s in agreement(content).spans] == [["k"], []]


# -- sharing and hashes --------------------------------------------------------------------------


def test_customers_with_the_same_terms_share_one_agreement() -> None:
    content = Content()
    content.add_customer("b", start=FEBRUARY, end=MARCH)
    content.add_customer("c", overrides=[override(unit_price="2")])
    found = content.load()
    a, b, c = (terms.agreement for n in "abc" if (terms := found.terms(n)))
    assert a is b
    assert a is not c


def test_members_of_a_pool_share_one_agreement() -> None:
    content = Content()
    content.customer["pool"] = "pool"
    content.add_customer("b", pool="pool")
    members = content.load().members("pool")
    assert list(members) == ["a", "b"]
    assert members["a"].agreement is members["b"].agreement


def _with(place: str, **changes: Any) -> Content:
    content = Content()
    getattr(content, place).update(changes)
    return content


OTHER_CONTENT = {
    "a price": _with("price", unit_price="2"),
    "an allowance": _with("price", included=6),
    "a fee": _with("fee", amount="21"),
    "a minimum of a price": _with("price", minimum="1"),
    "an override": _with("customer", overrides=[override(unit_price="3")]),
    "a discount": _with("plan", discounts=[{"id": "d", "percent": 5}]),
    "a cap": _with("contract", cap="50"),
    "a minimum": _with("customer", minimum={"amount": "50"}),
    "a minimum that is not prorated": _with("customer", minimum={"amount": "50", "prorate": False}),
    "a minimum of one price": _with("customer", minimum={"amount": "50", "of": ["p"]}),
}


def test_versions_of_other_content_have_other_hashes() -> None:
    found = [span(Content()).origin.version, *(span(c).origin.version for c in OTHER_CONTENT.values())]
    assert len(set(found)) == len(found)


def _reordered() -> Content:
    content = Content()
    content.version["prices"].reverse()
    content.all["meters"].reverse()
    return content


SAME_CONTENT = {
    "a plan's name": _with("plan", name="Other"),
    "a customer's name and start": _with("customer", name="Other", start=FEBRUARY),
    "an override that says the same": _with("customer", overrides=[override(unit_price="1")]),
    "defaults that are written out": _with("price", scope="period", per=1, proration="none"),
    "the order of prices": _reordered(),
    "a start of the card": _with("version", **{"from": "2022-12-01T00:00:00Z"}),
}


@pytest.mark.parametrize("content", SAME_CONTENT.values(), ids=SAME_CONTENT)
def test_a_version_of_the_same_content_has_the_same_hash(content: Content) -> None:
    assert span(content).origin.version == span(Content()).origin.version


def test_an_override_and_a_card_that_come_to_the_same_are_one_version() -> None:
    overridden = _with("customer", overrides=[override(unit_price="2")])
    assert span(overridden).origin.version == span(_with("price", unit_price="2")).origin.version


def test_two_meters_without_a_charge_are_another_version_than_one() -> None:
    content = Content()
    content.all["meters"].append({"id": "z", "event_type": "t", "aggregation": "count"})
    content.version["not_charged"] = ["z", "k"]
    assert span(content).origin.version != span(Content()).origin.version


# -- what a new catalog changes ------------------------------------------------------------------


def test_the_same_catalog_differs_in_nothing() -> None:
    old, new = Content().load(), _reordered().load()
    assert affected(old, new) == {}
    assert differences(old, Content().load()) == []


def test_what_was_added_and_removed_is_named() -> None:
    content = Content()
    content.add_customer("b")
    old, new = Content().load(), content.load()
    (added,), (removed,) = differences(old, new), differences(new, old)
    assert added == ("customers", "b", "added", ())
    assert removed == ("customers", "b", "removed", ())


def test_a_changed_field_is_said_with_its_place_by_name() -> None:
    content = _with("price", unit_price="2", cap="9")
    (change,) = differences(Content().load(), content.load())
    assert (change.kind, change.id, change.what) == ("rate_cards", "card", "changed")
    place = f"versions[{JANUARY}].prices[p]"
    assert change.lines == (f"{place}.unit_price: 1 → 2", f"{place}.cap: nothing → 9")


def test_a_new_version_is_said_as_one() -> None:
    content = Content()
    content.add_version(FEBRUARY)
    (change,) = differences(Content().load(), content.load())
    (line,) = change.lines
    assert line.startswith(f"versions[{FEBRUARY}]: nothing → ")


def test_changes_stand_in_the_order_of_the_catalogs_parts() -> None:
    content = _with("price", unit_price="2")
    content.plan["name"] = "Other"
    content.customer["name"] = "Other"
    found = differences(Content().load(), content.load())
    assert [change.kind for change in found] == ["rate_cards", "plans", "customers"]


def test_customers_with_other_terms_are_named_with_the_instants() -> None:
    old, new = Content(), Content()
    for content in (old, new):
        content.add_card("next", "4")
        content.add_customer("b", plan="next")
        content.add_version(FEBRUARY)
    new.versions[1]["prices"][0]["unit_price"] = "3"
    assert affected(old.load(), new.load()) == {"a": ["2023-02-01T00:00Z"]}


def test_a_name_affects_nobody() -> None:
    old, new = Content().load(), _with("plan", name="Other").load()
    assert affected(old, new) == {}


def test_a_new_customer_is_affected_from_its_first_version_on() -> None:
    content = Content()
    content.add_customer("b")
    assert affected(Content().load(), content.load()) == {"b": ["2023-01-01T00:00Z"]}
