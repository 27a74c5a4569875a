"""What the fold part promises beside the scenarios: pushes, versions, keys, forgetting."""

import msgspec
import pytest

from metering.catalog.load import load_texts
from metering.quota.limits import ONE
from metering.quota.quotas import Quotas
from metering.quota.wire import GrantFact, QuotaProfile, Reply, Reserve, Unseen, decode_state
from tests.quota.world import DAY, HOUR, METERS, START, catalog, events, quotas, states

LIMIT = {"id": "l", "meter": "tokens", "units": 100, "window": "day"}


def owner(**changes: object) -> Quotas:
    found = quotas(catalog({"limits": [{**LIMIT, **changes}]}))
    found.take(0)
    return found


def use(found: Quotas, units: int, at: int = START) -> None:
    found.post("a", "tokens", (), at, units * ONE)


def test_counters_may_wait_and_decisions_may_not() -> None:
    found = owner()
    use(found, 10)
    assert not found.is_urgent
    use(found, 90)
    assert found.is_urgent
    found.take(0)
    assert not found.is_urgent


def test_a_new_limit_is_urgent() -> None:
    found = owner()
    found.adopt(catalog({"limits": [{**LIMIT, "units": 200}]}))
    assert found.is_urgent


def test_a_customer_without_limits_changes_nothing() -> None:
    found = quotas(catalog({"limits": [LIMIT], "customers": [{"id": "a"}, {"id": "b"}]}))
    found.take(0)
    found.post("b", "calls", (), START, ONE)
    found.post("nobody", "tokens", (), START, ONE)
    assert found.take(1) == ([], [], [])


def test_versions_rise_with_every_change_of_a_key() -> None:
    found = owner()
    seen = []
    for units in (1, 2, 90, -50):
        found.post("a", "tokens", (), START, units * ONE, 1 if units > 0 else -1)
        seen += [int(s.version) for s in states(found.take(0))]
    assert seen == sorted(set(seen))
    assert len(seen) == 4


def test_a_higher_epoch_wins() -> None:
    old, new = owner(), quotas(catalog({"limits": [LIMIT]}), epoch=2)
    for _ in range(50):
        use(old, 1)
    use(new, 1)
    assert int(states(new.take(0))[0].version) > int(states(old.take(0))[0].version)


def test_a_state_says_up_to_where_it_counts() -> None:
    found = owner()
    use(found, 1)
    assert states(found.take(17))[0].as_of == {"0": 17}


def test_a_window_that_nothing_can_correct_is_a_tombstone() -> None:
    found = owner()
    use(found, 1)
    found.take(0)
    found.advance(START + 8 * DAY - 1)
    assert not found.take(0).states
    found.advance(START + 8 * DAY)
    taken = found.take(0)
    assert taken.states == [(msgspec.json.encode(["state", "a", "a", "l", START]), None)]
    assert [value for _, value in taken.entries] == [None]


def test_usage_of_a_forgotten_window_does_not_begin_it_anew() -> None:
    found = owner()
    found.advance(START + 8 * DAY)
    use(found, 1)
    assert found.take(1) == ([], [], [])


def test_a_plan_that_begins_brings_its_limits() -> None:
    plans = """
plans:
  - {id: small, name: S, rate_card: card, limits: [{id: l, meter: tokens, units: 100, window: day}]}
  - {id: large, name: L, rate_card: card, limits: [{id: l, meter: tokens, units: 900, window: day}]}
customers:
  - id: a
    name: A
    currency: USD
    start: 2023-01-01T00:00:00Z
    plans: [{plan: small, from: 2023-01-01T00:00:00Z}, {plan: large, from: 2023-11-01T12:00:00Z}]
"""
    found = quotas(load_texts({"m.yaml": METERS, "p.yaml": plans}))
    use(found, 100)
    assert [s.state for s in states(found.take(0))] == ["blocked"]
    found.advance(START + 13 * HOUR)
    taken = found.take(0)
    assert [(s.state, s.amount) for s in states(taken)] == [("ok", str(900 * ONE))]
    assert [(e.event, e.at) for e in events(taken)] == [
        ("limit_changed", START + 12 * HOUR),
        ("unblocked", START + 12 * HOUR),
    ]


def test_a_limit_that_is_dropped_takes_its_windows_with_it() -> None:
    found = owner()
    use(found, 1)
    found.take(0)
    found.adopt(catalog({"limits": []}))
    taken = found.take(0)
    assert None in [value for _, value in taken.states]
    profile = decode_state(next(v for _, v in taken.states if v is not None))
    assert isinstance(profile, QuotaProfile)
    assert not profile.limits
    assert [e.event for e in events(taken)] == ["limit_changed"]


def test_a_limit_that_was_dropped_while_a_worker_was_down_is_dropped_too() -> None:
    found = owner()
    use(found, 1)
    taken = found.take(0)
    again = Quotas(0, lambda _: True)
    again.restore(found.header(), taken.entries)
    again.adopt(catalog({"limits": []}))
    assert None in [value for _, value in again.take(0).states]


def test_entries_of_others_come_back() -> None:
    mine = [(b'["quota","tokens",1698796800]', b"a total of a customer that is called quota"), (b"x", b"y")]
    header = owner().header()
    assert Quotas(0, lambda _: True).restore(header, mine) == mine


def test_a_partition_owns_its_accounts_alone() -> None:
    found = Quotas(0, lambda name: name == "b")
    found.adopt(catalog({"limits": [LIMIT]}, "a", "b"))
    found.advance(START)
    use(found, 1)
    assert not states(found.take(0))


def test_time_passes_in_order_whatever_the_steps() -> None:
    def run(*steps: int) -> list[str]:
        found = owner(window="rolling 1h", units=10)
        use(found, 10)
        found.ask(Reserve("r", "x", "a", "tokens", str(ONE), validity_ms=1_000))
        for step in steps:
            found.advance(START + step)
        return [f"{e.event} {e.at}" for e in events(found.take(0))]

    assert run(2 * HOUR) == run(1, 2_000, HOUR, HOUR + 61_000, 2 * HOUR) != []


def test_time_never_goes_back() -> None:
    found = owner()
    found.advance(START + HOUR)
    found.advance(START)
    assert found.desk.clock == START + HOUR


def test_a_grant_on_a_rolling_limit_is_refused() -> None:
    found = owner(window="rolling 1h")
    assert not found.learn(GrantFact("g", "a", "l", str(ONE), START))
    assert [e.event for e in events(found.take(0))] == ["refused"]


@pytest.mark.parametrize("amount", ["", "-5", "many", "0"])
def test_a_grant_of_no_amount_is_refused(amount: str) -> None:
    assert not owner().learn(GrantFact("g", "a", "l", amount, START))


def test_a_grant_is_revoked_without_naming_its_amount() -> None:
    found = owner(units=0)
    found.learn(GrantFact("g", "a", "l", str(5 * ONE), START))
    assert found.learn(GrantFact("g", "a", "l", "", 0, revoked=True))
    use(found, 1)
    assert states(found.take(0))[-1].amount == "0"


def test_facts_name_who_and_why() -> None:
    found = owner()
    found.learn(GrantFact("g", "a", "l", str(ONE), START, actor="mira", reason="an outage"))
    told = events(found.take(0))[0]
    assert (told.event, told.actor, told.reason) == ("grant_added", "mira", "an outage")


def test_a_lease_of_another_customer_shrinks_nothing() -> None:
    found = quotas(catalog({"limits": [LIMIT]}, "a", "b"))
    reply = found.ask(Reserve("r", "x", "a", "tokens", str(10 * ONE)))
    found.post("b", "tokens", (), START, 5 * ONE, 1, reply.lease)
    assert {s.scope: s.reserved for s in states(found.take(0))} == {"a": str(10 * ONE), "b": "0"}


def told(found: Quotas, unseen: Unseen) -> Reply:
    return found.ask(Reserve("r", "x", "a", "tokens", str(30 * ONE), whole=True, unseen=unseen))


def test_room_is_left_for_what_a_client_has_sent_and_nobody_has_metered() -> None:
    found = owner()
    found.desk.offset = 7
    reply = told(found, Unseen(str(71 * ONE), until=8))
    assert (reply.ok, reply.reason) == (False, "settling")


def test_no_room_is_left_twice_for_what_is_metered() -> None:
    found = owner()
    found.desk.offset = 8
    assert told(found, Unseen(str(71 * ONE), until=8)).ok


def test_room_is_left_for_what_has_no_offset_yet() -> None:
    assert told(owner(), Unseen(str(71 * ONE), until=-1)).reason == "settling"


def test_unseen_usage_that_is_no_quantity_is_refused() -> None:
    assert told(owner(), Unseen("-1", until=1)).reason == "bad_quantity"
