"""What a backfill sends and refuses, case by case."""

import json

import pytest

from metering.backfill.plan import Operation
from metering.backfill.preparing import Prepared
from metering.backfill.request import Mode, Request, Scope, read_request
from metering.catalog.load import load_texts
from metering.errors import UserError
from metering.state.calendar import HOUR_MS, period_end
from tests.backfill.world import World, usage
from tests.state.folding import NOW, START, tick

AT = START + 3 * HOUR_MS
NOVEMBER = Scope(starts=START, ends=START + 30 * 24 * HOUR_MS)


def asked(*lines: bytes, mode: Mode = "add", scope: Scope | None = None, name: str = "one") -> Request:
    scope = scope or (NOVEMBER if mode == "replace" else Scope())
    return read_request("u.jsonl", b"\n".join(lines), mode, scope, "anna", "why", name)


def operations(prepared: list[Prepared]) -> list[Operation]:
    return [operation for one in prepared for operation in one.plan.operations]


def kinds(prepared: list[Prepared]) -> list[tuple[str, str]]:
    return [(o.kind, o.event.id) for o in operations(prepared)]


def problems(prepared: list[Prepared]) -> list[tuple[int, str]]:
    return [(p.line, p.reason) for one in prepared for p in one.plan.problems]


def with_usage(*values: bytes) -> World:
    world = World()
    world.send(*values)
    return world


def void(original: bytes) -> bytes:
    data = {"event": json.loads(original), "actor": "bob", "reason": "a test"}
    made = {"id": "fix", "customer": "a", "type": "metering.void", "time": START, "data": data}
    return json.dumps(made).encode()


# -- the request ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not_json"),
        (usage(1, at=AT, backfill="mine"), "reserved_field"),
        (usage(1, at=AT, type="metering.void"), "reserved_type"),
        (usage(1, at=NOVEMBER.ends), "out_of_range"),
        (usage(1, customer="b", at=AT), "out_of_range"),
        (usage(2, n=5, at=AT), "conflict"),
    ],
)
def test_a_line_that_no_backfill_can_hold_is_named(line: bytes, reason: str) -> None:
    scope = NOVEMBER._replace(customers=frozenset("a"))
    found = asked(usage(2, at=AT), b"", line, mode="replace", scope=scope)
    assert [(p.line, p.reason) for p in found.problems] == [(3, reason)]


def test_an_envelope_is_sent_event_by_event() -> None:
    found = asked(b"[" + usage(1, at=AT) + b", " + usage(2, at=AT) + b"]")
    assert kinds(World().prepare(found)) == [("add", "e1"), ("add", "e2")]


def test_a_line_that_stands_twice_is_sent_once() -> None:
    found = asked(usage(1, at=AT), usage(1, at=AT))
    assert (len(found.lines), found.duplicates, found.problems) == (1, 1, [])


@pytest.mark.parametrize(
    ("scope", "lines"), [(Scope(), [usage(1)]), (NOVEMBER, []), (Scope(starts=9, ends=9), [usage(1)])]
)
def test_a_replacement_says_what_it_replaces(scope: Scope, lines: list[bytes]) -> None:
    with pytest.raises(UserError):
        asked(*lines, mode="replace", scope=scope)


def test_equal_requests_have_an_equal_id_and_others_another() -> None:
    names = {
        asked(*lines, mode=mode, name="").backfill
        for lines in ([usage(1, at=AT)], [usage(2, at=AT)])
        for mode in ("add", "replace", "add")
    }
    assert len(names) == 4


def test_an_id_that_cannot_be_typed_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be the id"):
        asked(usage(1), name='a"b')


# -- the plan -------------------------------------------------------------------------------------


def test_adding_what_counts_already_changes_nothing() -> None:
    world = with_usage(usage(1, at=AT))
    (one,) = world.prepare(asked(usage(1, at=AT)))
    assert (one.plan.operations, one.plan.unchanged) == ([], 1)


def test_adding_other_data_for_an_event_that_counts_is_a_conflict() -> None:
    world = with_usage(usage(1, at=AT))
    assert problems(world.prepare(asked(usage(2, at=AT), usage(1, n=5, at=AT)))) == [(2, "conflict")]


def test_an_event_keeps_its_time() -> None:
    world = with_usage(usage(1, at=AT))
    moved = asked(usage(1, at=AT + 1), mode="replace")
    assert problems(world.prepare(moved)) == [(1, "conflict")]


def test_adding_an_event_that_was_voided_restores_it() -> None:
    world = with_usage(usage(1, at=AT), void(usage(1, at=AT)))
    assert kinds(world.prepare(asked(usage(1, n=5, at=AT)))) == [("restore", "e1")]


def test_a_replacement_takes_away_what_the_file_does_not_hold() -> None:
    world = with_usage(*(usage(n, at=AT) for n in (1, 2, 3)), usage(4, customer="b", at=AT))
    prepared = world.prepare(asked(usage(1, at=AT), usage(2, n=7, at=AT), usage(5, at=AT), mode="replace"))
    assert kinds(prepared) == [("void", "e3"), ("amend", "e2"), ("add", "e5")]


def test_numbers_keep_their_digits_on_the_way() -> None:
    world = World()
    sent = usage(1, at=AT).replace(b'"n": 1,', b'"n": 1.50,')
    world.carry_out(world.prepare(asked(sent)))
    world.send(sent)
    assert [letter.reason for letter in world.letters] == []  # the same content: a duplicate


# -- what the folds refuse ------------------------------------------------------------------------


def refused(*lines: bytes, world: World | None = None) -> list[tuple[int, str]]:
    return problems((world or World()).prepare(asked(*lines)))


def test_events_that_could_not_count_are_named_by_line() -> None:
    lines = [
        usage(1, at=AT),
        usage(2, customer="nobody", at=AT),
        usage(3, n=-1, at=AT),
        usage(4, at=AT, type="x"),
    ]
    assert sorted(refused(*lines)) == [(2, "unknown_customer"), (3, "negative_value"), (4, "unknown_type")]


def test_usage_of_a_period_that_is_beyond_correction_is_refused() -> None:
    assert refused(usage(1, customer="b", at=START - 40 * 24 * HOUR_MS)) == [(1, "period_closed")]


def test_usage_whose_id_may_be_forgotten_is_refused() -> None:
    world = World()
    world.begun = NOW - 50 * 24 * HOUR_MS
    age = 37 * 24 * HOUR_MS
    assert refused(usage(1, customer="b", at=NOW - age), world=world) == [(1, "too_old")]


def test_a_replacement_of_events_that_are_too_old_is_refused_and_names_them() -> None:
    world = with_usage(usage(1, at=AT))
    world.begun, world.now = NOW, NOW + 60 * 24 * HOUR_MS
    (one,) = world.prepare(asked(usage(2, at=AT), mode="replace"))
    assert {(p.line, p.reason) for p in one.plan.problems} == {(0, "too_old"), (1, "too_old")}
    assert any("void of `e1`" in p.detail for p in one.plan.problems)


# -- apply and revert -----------------------------------------------------------------------------


def test_an_apply_that_was_cut_off_anywhere_goes_on_where_it_stopped() -> None:
    there = [usage(n, n, at=AT + n) for n in range(4)]
    request = asked(usage(0, 9, at=AT), *(usage(n, n, at=AT) for n in (7, 8)), mode="replace")
    whole = with_usage(*there)
    whole.carry_out(whole.prepare(request))
    records = [r for one in with_usage(*there).prepare(request) for r in one.records]
    for sent in range(len(records)):
        world = with_usage(*there)
        world.send(*records[:sent])
        world.carry_out(world.prepare(request))
        assert (world.metered(), world.letters) == (whole.metered(), [])


def test_a_plan_that_is_sent_twice_counts_once() -> None:
    world = with_usage(usage(1, at=AT), usage(2, at=AT))
    prepared = world.prepare(asked(usage(3, at=AT), mode="replace"))
    world.carry_out(prepared)
    before = world.metered()
    world.carry_out(prepared)
    assert (world.metered(), world.letters) == (before, [])


def test_a_second_preparation_makes_the_same_records() -> None:
    world = with_usage(usage(1, at=AT), usage(2, at=AT))
    request = asked(usage(1, n=5, at=AT), usage(3, at=AT), mode="replace")
    first, second = ([r for one in world.prepare(request) for r in one.records] for _ in range(2))
    assert first == second


def test_usage_that_comes_in_between_leaves_a_dead_letter_and_a_second_run_mends_it() -> None:
    world = with_usage(usage(1, 9, at=AT), usage(2, 5, at=AT))
    request = asked(usage(2, 5, at=AT), mode="replace", scope=NOVEMBER._replace(source=""))
    prepared = world.prepare(request)
    world.send(usage(3, 7, at=AT, source="gateway"))
    world.carry_out(prepared)
    assert [letter.reason for letter in world.letters] == ["outdated_correction"]
    world.carry_out(world.prepare(request))
    model = with_usage(usage(2, 5, at=AT), usage(3, 7, at=AT, source="gateway"))
    assert world.metered() == model.metered()


def test_a_revert_leaves_what_was_corrected_since_and_says_so() -> None:
    world = with_usage(usage(1, at=AT))
    world.carry_out(world.prepare(asked(usage(1, n=2, at=AT), mode="replace", name="one")))
    world.carry_out(world.prepare(asked(usage(1, n=3, at=AT), mode="replace", name="two")))
    found = [p for one in world.prepare_revert("one") for p in one.plan.problems]
    assert [p.reason for p in found] == ["corrected_since"]
    assert "two:apply:" in found[0].detail


def test_a_revert_takes_back_what_was_brought_even_when_it_was_corrected_since() -> None:
    world = World()
    world.carry_out(world.prepare(asked(usage(1, at=AT), usage(2, at=AT))))
    world.carry_out(world.prepare(asked(usage(1, n=3, at=AT), mode="replace", name="two")))
    world.carry_out(world.prepare_revert("one"))
    assert (world.metered(), world.letters) == ({}, [])


# -- the preview ----------------------------------------------------------------------------------

CONTRACT = load_texts(
    {
        "c.yaml": """
meters: [{id: calls, event_type: use, aggregation: sum, value: n}]
rate_cards:
  - id: card
    currency: USD
    versions:
      - from: 2023-01-01T00:00:00Z
        prices:
          - id: calls
            meter: calls
            model: graduated
            scope: contract
            tiers: [{up_to: 100, unit_price: "1"}, {unit_price: "0.1"}]
plans: [{id: plan, name: Plan, rate_card: card}]
customers: [{id: a, name: A, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}]
"""
    }
)


def test_tiers_of_a_contract_move_in_later_periods_too() -> None:
    world = World(CONTRACT)
    december = period_end("2023-11") + 2 * HOUR_MS
    world.send(
        usage(1, 90, at=AT), usage(2, 20, at=december), tick(NOW - period_end("2023-11") - 24 * HOUR_MS)
    )
    (one,) = world.prepare(asked(usage(3, 10, at=AT)))
    moved = [(a.period, a.after - a.before, a.adjusted_in) for a in one.rated.amounts]
    assert moved == [("2023-11", 10_000_000, "2023-12"), ("2023-12", -9_000_000, "")]


def test_tiers_of_a_contract_stand_where_earlier_periods_left_them() -> None:
    world = World(CONTRACT)
    december = period_end("2023-11") + 2 * HOUR_MS
    world.send(usage(1, 90, at=AT), tick(NOW - period_end("2023-11") - 24 * HOUR_MS))
    (one,) = world.prepare(asked(usage(2, 20, at=december)))
    assert [(a.before, a.after) for a in one.rated.amounts] == [(0, 11_000_000)]


def test_the_preview_counts_units_by_meter() -> None:
    world = with_usage(usage(1, 2, at=AT))
    (one,) = world.prepare(asked(usage(2, 3, at=AT)))
    found = {u.meter: (u.before, u.after, u.events_after) for u in one.units}
    assert found["bytes"] == (2_000_000, 5_000_000, 2)


def test_books_that_differ_from_the_archive_are_no_ground_for_a_preview() -> None:
    world = with_usage(usage(1, 2, at=AT))
    world.forget_archive()
    with pytest.raises(UserError, match="differ from their archive"):
        world.prepare(asked(usage(2, 3, at=AT)))
