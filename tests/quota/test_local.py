"""A client's answers from memory: overlay by offset, the strict zone, leases, denials, staleness."""

from typing import Any

import msgspec
import pytest

from metering.quota.limits import ONE
from metering.quota.local import Answer, LocalView
from metering.quota.quotas import Quotas
from metering.quota.wire import Reserve
from metering.state.partitioning import partition_of
from tests.quota.world import HOUR, START, catalog, quotas

LIMIT = {"id": "l", "meter": "tokens", "units": 100, "window": "day"}


class Client:
    """An owner and one view of it; both clocks are right unless told otherwise."""

    def __init__(self, *limits: dict[str, Any], skew: int = 0, **more: Any) -> None:
        self.owner: Quotas = quotas(catalog({"limits": limits or [LIMIT], **more}))
        self.view = LocalView()
        self.now = START
        self.skew = skew
        self.offset = 0
        self.sync()
        self.view.is_ready = True

    def sync(self) -> None:
        self.owner.advance(self.now)
        records = [*self.owner.take(self.offset).states, self.owner.heartbeat(self.now)]
        for key, value in records:
            self.view.apply(key, value, 0, self.now + self.skew)

    def beat(self) -> None:
        """A heartbeat of an owner that has read its log to the end."""
        self.now += 1
        self.view.apply(*self.owner.heartbeat(self.now), 0, self.now + self.skew)

    def started(self) -> LocalView:
        """Another client, which reads now what stands in the topic."""
        view = LocalView()
        self.owner.say_again()
        beat = self.owner.heartbeat(self.owner.desk.clock)
        for key, value in [*self.owner.take(self.offset).states, beat]:
            view.apply(key, value, 0, self.now)
        view.is_ready = True
        return view

    def used_elsewhere(self, units: int) -> None:
        self.owner.advance(self.now)
        self.owner.post("a", "tokens", (), self.now, units * ONE)
        self.offset += 1

    def check(self, units: int, **more: Any) -> Answer:
        return self.view.check("a", "tokens", units * ONE, self.now + self.skew, **more)

    def reserve(self, units: int, name: str = "r1") -> None:
        self.owner.advance(self.now)
        reply = self.owner.ask(Reserve(name, "x", "a", "tokens", str(units * ONE), requests=5))
        self.view.take_reply("a", "tokens", reply, self.now + self.skew)


def test_far_from_the_limit_the_answer_is_local() -> None:
    client = Client()
    assert client.check(50) == ("allow", "ok", "", "", 0)


def test_what_this_client_has_sent_counts_until_a_state_includes_it() -> None:
    client = Client()
    own = client.view.begin("a", "tokens", 90 * ONE)
    assert client.check(20).reason == "limit_reached"
    client.view.delivered(own, offset=0)
    assert client.check(20).reason == "limit_reached"
    client.used_elsewhere(90)  # it is metered, at offset 0
    client.sync()
    assert client.view.check("a", "tokens", 10 * ONE, client.now).verdict == "reserve"
    assert client.check(11).reason == "limit_reached"


def test_a_customer_that_moves_to_another_partition_takes_its_states_along() -> None:
    client = Client()
    client.view.delivered(client.view.begin("a", "tokens", 60 * ONE), offset=1_000)
    moved = quotas(catalog({"limits": [LIMIT]}), epoch=2)
    moved.advance(client.now)
    moved.post("a", "tokens", (), client.now, 60 * ONE)
    moved.say_again()
    for key, value in [*moved.take(0).states, moved.heartbeat(client.now)]:
        client.view.apply(key, value, 1, client.now)
    assert client.check(30).reason == "strict_zone"  # counted once
    assert client.check(41).reason == "limit_reached"


def test_a_parent_says_nothing_new_of_who_moved_away_when_the_partitions_grew() -> None:
    """Its records stay in the topic, and its heartbeats go on: they are not those of the customer."""
    found, child = catalog({"limits": [LIMIT]}), partition_of("a", 2)
    parent, view = quotas(found), LocalView()
    view.partitions, view.is_ready = 2, True
    for record in [*parent.take(1_000).states, parent.heartbeat(START)]:
        view.apply(*record, 1 - child, START)
    assert view.check("a", "tokens", ONE, START).reason == "stale"
    view.delivered(view.begin("a", "tokens", 90 * ONE), offset=5)
    view.apply(*quotas(found).heartbeat(START), child, START)
    parent.say_again()
    for record in [*parent.take(2_000).states, parent.heartbeat(START)]:
        view.apply(*record, 1 - child, START)
    assert view.check("a", "tokens", 20 * ONE, START).reason == "limit_reached"


def test_who_fails_open_serves_its_fair_share_of_what_was_left() -> None:
    client = Client({**LIMIT, "when_stale": "allow", "reuse_last": "1s"})
    client.used_elsewhere(40)
    client.sync()
    client.now += HOUR
    assert client.check(60) == ("allow", "stale", "l", "", 0)
    client.view.begin("a", "tokens", 50 * ONE)  # nobody tells it that others use it, too
    assert client.check(10).verdict == "allow"
    assert client.check(11) == ("deny", "stale", "l", "", 0)


def test_own_usage_behind_the_state_still_counts() -> None:
    client = Client()
    client.used_elsewhere(10)
    client.view.delivered(client.view.begin("a", "tokens", 60 * ONE), offset=1)
    client.sync()  # as of offset 1, which is the next
    assert client.check(31).reason == "limit_reached"


def test_a_heartbeat_settles_usage_that_was_refused() -> None:
    client = Client()
    client.view.delivered(client.view.begin("a", "tokens", 90 * ONE), offset=7)
    client.offset = 8  # a dead letter: no state changes
    client.sync()
    assert client.check(50).verdict == "allow"


def test_what_failed_to_send_is_free_again() -> None:
    client = Client()
    own = client.view.begin("a", "tokens", 90 * ONE)
    client.view.failed(own)
    assert client.check(50).verdict == "allow"


def test_near_the_limit_a_client_reserves() -> None:
    client = Client()
    client.used_elsewhere(50)
    client.sync()  # 50 in the busiest second, a lag of 1 s: strict below 100
    assert client.check(1) == ("reserve", "strict_zone", "l", "", 0)


def test_a_lease_is_used_without_asking_and_not_counted_twice() -> None:
    client = Client()
    client.used_elsewhere(50)
    client.now += 2_000
    client.sync()
    client.reserve(10)
    answer = client.check(4)
    assert (answer.verdict, answer.reason) == ("allow", "lease")
    client.view.begin("a", "tokens", 8 * ONE, lease=answer.lease)
    assert client.check(4).verdict == "reserve"
    assert client.check(2).lease == answer.lease


def test_a_lease_ends_with_its_validity() -> None:
    client = Client()
    client.used_elsewhere(50)
    client.now += 2_000
    client.sync()
    client.reserve(10)
    client.now += 30_000
    client.sync()
    assert client.check(4).lease == ""


def test_a_denial_is_remembered_until_the_state_changes() -> None:
    client = Client()
    client.used_elsewhere(50)
    client.sync()
    client.reserve(50)  # settling: usage without a lease may be on its way
    assert client.check(1) == ("deny", "denied", "l", "", 1_000)
    client.used_elsewhere(1)
    client.sync()
    assert client.check(1).verdict == "reserve"


def test_a_denial_is_remembered_until_its_time_is_over() -> None:
    client = Client()
    client.used_elsewhere(50)
    client.sync()
    client.reserve(50)
    client.now += 1_000
    assert client.check(1).verdict == "reserve"


def test_a_new_window_needs_no_record() -> None:
    client = Client()
    client.used_elsewhere(100)
    client.sync()
    assert client.check(1).verdict == "deny"
    client.now += 24 * HOUR
    client.sync()
    assert client.check(50).verdict == "allow"


@pytest.mark.parametrize("skew", [-3 * HOUR, 3 * HOUR])
def test_a_wrong_clock_is_set_by_the_heartbeats(skew: int) -> None:
    client = Client(skew=skew)
    client.now = START + 23 * HOUR
    client.used_elsewhere(100)
    client.sync()
    client.beat()
    assert client.check(1).reason == "limit_reached"
    client.now = START + 25 * HOUR
    client.sync()
    assert client.check(50).verdict == "allow"


def test_who_starts_while_the_pipeline_is_down_does_not_take_an_old_heartbeat_for_a_wrong_clock() -> None:
    """The last heartbeat is an hour old; the window that it was sent in is over."""
    client = Client({**LIMIT, "window": "hour"})
    client.used_elsewhere(100)
    client.sync()
    client.now += HOUR
    late = client.started()
    assert late.check("a", "tokens", ONE, client.now).reason == "stale"
    late.apply(*client.owner.heartbeat(client.now), 0, client.now)
    assert late.check("a", "tokens", ONE, client.now).reason == "ok"


def test_who_reads_an_old_heartbeat_again_does_not_take_it_for_a_wrong_clock() -> None:
    client = Client()
    old = client.owner.heartbeat(client.now + 1)
    client.now += HOUR
    late = client.started()
    late.apply(*old, 0, client.now, is_old=True)
    assert late.check("a", "tokens", ONE, client.now).reason == "stale"


def test_a_fold_that_is_behind_is_not_taken_for_a_wrong_clock() -> None:
    """Its heartbeats come now and say how far it has come."""
    client = Client()
    behind = client.owner.heartbeat(client.owner.desk.clock)
    client.now += HOUR
    late = client.started()
    late.apply(*behind, 0, client.now)
    assert late.check("a", "tokens", ONE, client.now).reason == "stale"


@pytest.mark.parametrize(("kind", "verdict"), [("hard", "deny"), ("soft", "allow")])
def test_a_view_that_falls_behind_says_so(kind: str, verdict: str) -> None:
    client = Client({**LIMIT, "kind": kind, "reuse_last": "30s"})
    client.now += 30_000
    assert client.check(1).reason == "ok"
    client.now += 1
    assert client.check(1) == (verdict, "stale", "l", "", 0)


def test_old_heartbeats_that_arrive_now_do_not_refresh() -> None:
    client = Client()
    old = client.owner.heartbeat(START)
    client.now += 61_000
    client.view.apply(*old, 0, client.now)
    assert client.check(1).reason == "stale"


def test_a_quiet_partition_is_not_a_dead_one() -> None:
    client = Client()
    client.now += 600_000
    client.view.apply(*client.owner.heartbeat(client.now), 0, client.now)
    assert client.check(1).reason == "ok"


def test_before_the_topic_is_read_the_owner_is_asked() -> None:
    assert LocalView().check("a", "tokens", ONE, START).reason == "not_ready"


def test_no_limit_is_no_limit() -> None:
    assert Client().view.check("a", "calls", ONE, START).reason == "no_limit"
    assert Client().view.check("stranger", "tokens", ONE, START).reason == "no_limit"


def test_a_negative_quantity_is_refused() -> None:
    assert Client().check(-1) == ("deny", "bad_quantity", "", "", 0)


def test_nothing_costs_nothing_even_when_blocked() -> None:
    client = Client({**LIMIT, "units": 0})
    assert client.check(0).verdict == "allow"
    assert client.check(1).reason == "limit_reached"


def test_a_profile_of_a_newer_format_is_asked_about() -> None:
    client = Client()
    key = b'["profile","a","a"]'
    client.view.apply(key, b'{"kind":"profile","v":2,"limits":"other"}', 0, START)
    assert client.check(1) == ("reserve", "newer_format", "", "", 0)


def test_a_state_of_a_newer_format_is_asked_about() -> None:
    client = Client()
    key = msgspec.json.encode(["state", "a", "a", "l", START])
    client.view.apply(key, b'{"kind":"state","v":2}', 0, START)
    assert client.check(1) == ("reserve", "unknown", "l", "", 0)


def test_a_tombstone_of_the_window_is_unknown_not_fine() -> None:
    client = Client()
    client.view.apply(msgspec.json.encode(["state", "a", "a", "l", START]), None, 0, START)
    assert client.check(1).verdict == "reserve"


@pytest.mark.parametrize("key", [b"", b"{", b"[]", b'["state"]', b'["other", 1]', b"\xff"])
def test_a_record_that_makes_no_sense_is_no_accident(key: bytes) -> None:
    client = Client()
    client.view.apply(key, b"{", 0, START)
    assert client.check(1).reason == "ok"


def test_an_older_record_does_not_win() -> None:
    client = Client()
    client.used_elsewhere(10)
    old = client.owner.take(1).states
    client.used_elsewhere(90)
    client.sync()
    for key, value in old:
        client.view.apply(key, value, 0, client.now)
    assert client.check(1).reason == "limit_reached"


def test_a_limit_that_is_dropped_is_gone() -> None:
    client = Client({**LIMIT, "units": 0})
    client.owner.adopt(catalog({"limits": []}))
    client.sync()
    assert client.check(1).reason == "no_limit"


def test_members_of_a_pool_share_an_overlay() -> None:
    pool = {"id": "p", "limits": [{"id": "all", "meter": "tokens", "units": 100, "window": "day"}]}
    members = [{"id": "a", "pool": "p"}, {"id": "b", "pool": "p"}]
    client = Client({**LIMIT, "units": 1000}, pools=[pool], customers=members)
    client.view.begin("b", "tokens", 90 * ONE)
    assert client.check(20) == ("deny", "limit_reached", "all", "", 0)


def test_usage_that_a_limit_does_not_count_passes_it() -> None:
    client = Client({**LIMIT, "units": 0, "where": {"region": ["eu"]}})
    assert client.check(1, dimensions={"region": "us"}).verdict == "allow"
    assert client.check(1, dimensions={"region": "eu"}).verdict == "deny"
    assert client.check(1).verdict == "deny"


def test_many_questions_have_the_answers_of_single_ones() -> None:
    client = Client()
    client.used_elsewhere(30)
    client.now += 61_000
    client.sync()
    wanted = [
        (c, m, u * ONE) for c in ("a", "b") for m in ("tokens", "calls") for u in (-1, 0, 1, 69, 70, 71)
    ]
    single = [client.view.check(*question, client.now) for question in wanted]
    assert client.view.check_many(wanted, client.now) == single
