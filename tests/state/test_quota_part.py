"""Quotas in the meter fold: what they count is what is metered, what they decided is kept."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metering.quota.wire import (
    Commit,
    GrantFact,
    QuotaEvent,
    QuotaProfile,
    QuotaState,
    Reply,
    Reserve,
    decode_event,
    decode_reply,
    decode_state,
    encode,
)
from metering.state.fold import Changes, Entry, Saved
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from metering.state.partitioning import partition_of
from metering.state.quota_part import QuotaRules
from metering.state.split import meter_child, meter_customer
from tests.state.folding import CATALOG, HOUR, NOW, catalog, chunk, event, tick

LIMITED = CATALOG.replace(
    "plans: [{id: plan, name: Plan, rate_card: card}]",
    "plans: [{id: plan, name: Plan, rate_card: card,"
    " limits: [{id: l, meter: tokens, units: 100, window: month},"
    " {id: many, meter: calls, requests: 1000, window: hour, thresholds: [100]}]}]",
)
PLAIN, BOOK = catalog(), catalog(LIMITED)
ONE = 1_000_000
RULES = QuotaRules("states", "events", "replies")
LATE = 60 * 24  # hours from the beginning until NOW


@dataclass
class Life:
    """A fold and what a journal would hold of it; `again` is the next life of its process."""

    partition: int = 0
    partitions: int = 1
    quotas: QuotaRules | None = RULES
    saved: Saved | None = None
    entries: dict[bytes, Entry] = field(default_factory=dict)
    states: dict[bytes, QuotaState] = field(default_factory=dict)
    happened: list[QuotaEvent] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        rules = MeterRules(self.partition, self.partitions, "e", "h", "r", quotas=self.quotas)
        self.fold = MeterFold(rules)
        if self.saved is not None:
            self.fold.restore(self.saved)
            self.fold.adopt(BOOK)

    def feed(self, *values: bytes, book: Any = BOOK, appended: int = NOW) -> None:
        self.fold.fold([chunk(self.fold.offset or 0, values, appended)], book)

    def ask(self, *requests: Any, first: int = 0, appended: int = NOW + 5_000) -> None:
        assert self.fold.quotas is not None
        assert self.fold.quotas.ask(
            [chunk(first, [encode(r) for r in requests], appended)], BOOK, self.fold.offset or 0
        )

    def checkpoint(self) -> Changes | None:
        changes = self.fold.changes()
        if changes is None:
            return None
        for entry in changes.entries:
            self.entries[entry.key] = entry
            if entry.value is None:
                del self.entries[entry.key]
        segments = [*(self.saved.segments if self.saved else ()), *changes.segments]
        self.saved = Saved(changes.offset, changes.header, list(self.entries.values()), segments)
        self._publish(changes)
        return changes

    def _publish(self, changes: Changes) -> None:
        for output in changes.outputs:
            if output.topic == "replies":
                self.replies.append(decode_reply(output.value or b""))
            elif output.topic == "events":
                self.happened.append(decode_event(output.value or b""))
            elif output.topic == "states" and output.value is not None:
                record = decode_state(output.value)
                if isinstance(record, QuotaState) and self._is_newer(output.key or b"", record):
                    self.states[output.key or b""] = record

    def _is_newer(self, key: bytes, record: QuotaState) -> bool:
        return key not in self.states or int(record.version) >= int(self.states[key].version)

    def again(self, **changes: Any) -> "Life":
        kept = {"states": self.states, "happened": self.happened, "replies": self.replies}
        return Life(**{"saved": self.saved, "entries": dict(self.entries), **kept, **changes})

    def state(self, customer: str = "a") -> QuotaState:
        (found,) = [
            s for s in self.states.values() if s.account == customer and s.window_end > NOW and s.limit == "l"
        ]
        return found


def use(number: int, n: int, **changes: Any) -> bytes:
    return event(number, hour=LATE, n=n, **changes)


def reserve(name: str, units: int, **changes: Any) -> Reserve:
    return Reserve(name, "me", "a", "tokens", str(units * ONE), **{"whole": True, **changes})


def told(life: Life) -> list[tuple[str, int]]:
    return [(e.event, e.percent) for e in life.happened]


def test_usage_is_counted_once_whatever_comes_twice() -> None:
    life = Life()
    life.feed(use(1, 60), use(1, 60), use(2, 30), b"noise")
    life.checkpoint()
    assert (life.state().posted, life.state().state) == (str(90 * ONE), "warn")
    assert told(life) == [("threshold", 50), ("threshold", 80)]


def test_what_is_voided_or_amended_is_given_back() -> None:
    life = Life()
    first, second = use(1, 60), use(2, 40)
    life.feed(first, second)
    life.checkpoint()
    assert life.state().state == "blocked"
    life.feed(
        correction("metering.void", first),
        correction("metering.amend", second, instead={"n": 5, "kind": "x"}),
    )
    life.checkpoint()
    assert (life.state().posted, life.state().state) == (str(5 * ONE), "ok")


def correction(kind: str, original: bytes, **more: Any) -> bytes:
    said = json.loads(original)
    data = {"event": said, "actor": "ops", "reason": "wrong", **more}
    return use(0, 0, id=f"{kind} {said['id']}", type=kind, data=data)


@st.composite
def cuts(draw: Any) -> tuple[list[bytes], list[int], list[int]]:
    sizes = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), max_size=14))
    values = [use(n, size, customer="ab"[n % 2]) for n, size in sizes]
    places = st.lists(st.integers(0, len(values)), max_size=4)
    return values, sorted(draw(places)), sorted(draw(places))


def folded(values: Sequence[bytes], saves: Iterable[int], crashes: Iterable[int]) -> Life:
    """A life that checkpoints and dies here and there; what was not saved is folded again."""
    life, crashes = Life(), list(crashes)
    stops = sorted({*saves, *crashes, len(values)})
    for stop in stops:
        start = life.fold.offset or 0
        if start < stop:
            life.feed(*values[start:stop])
        if stop in crashes and life.saved is not None:
            life = life.again()
        elif stop not in crashes:
            life.checkpoint()
    start = life.fold.offset or 0
    if start < len(values):
        life.feed(*values[start:])
    life.checkpoint()
    return life


@given(cuts())
def test_crashes_and_checkpoints_change_no_state_and_fire_no_threshold_twice(
    plan: tuple[list[bytes], list[int], list[int]],
) -> None:
    values, saves, crashes = plan
    one, other = folded(values, [], []), folded(values, saves, crashes)
    assert one.states.keys() == other.states.keys()
    for key, state in one.states.items():
        assert (state.posted, state.state) == (other.states[key].posted, other.states[key].state)
    assert {e.id for e in one.happened} == {e.id for e in other.happened}


def test_a_reply_is_published_with_the_lease_that_it_grants() -> None:
    life = Life()
    life.feed(use(1, 50))
    life.checkpoint()
    life.ask(reserve("x", 30))
    assert life.fold.quotas is not None
    assert life.fold.quotas.is_urgent
    changes = life.checkpoint()
    assert changes is not None
    assert any(b'"lease"' in e.key for e in changes.entries)
    (reply,) = life.replies
    assert (reply.ok, reply.granted, life.state().reserved) == (True, str(30 * ONE), str(30 * ONE))


def test_a_lease_and_its_reply_survive_a_restart_and_metering_uses_it_up() -> None:
    life = Life()
    life.feed(use(1, 50))
    life.ask(reserve("x", 30))
    life.checkpoint()
    after = life.again()
    after.ask(reserve("x", 30), reserve("y", 30), first=1)
    after.feed(use(2, 20, lease=life.replies[0].lease))
    after.checkpoint()
    assert [r.lease for r in after.replies[:2]] == [life.replies[0].lease] * 2
    assert after.replies[2].reason == "reserved_by_others"
    assert (after.state().posted, after.state().reserved) == (str(70 * ONE), str(10 * ONE))


def test_an_event_that_counts_for_two_meters_uses_up_the_lease_of_one() -> None:
    life = Life()
    life.feed(use(1, 50))
    life.ask(reserve("x", 30))
    life.checkpoint()
    life.feed(use(2, 10, lease=life.replies[0].lease))  # a count of calls, too
    life.checkpoint()
    assert (life.state().posted, life.state().reserved) == (str(60 * ONE), str(20 * ONE))


def test_a_request_that_was_not_saved_is_read_again_and_one_that_was_is_not() -> None:
    life = Life()
    life.feed(use(1, 1))
    life.checkpoint()
    life.ask(reserve("x", 30))
    lost = life.again()
    assert lost.fold.quotas is not None
    assert lost.fold.quotas.requests is None
    lost.ask(reserve("x", 30))
    lost.checkpoint()
    lost.ask(reserve("x", 30))  # the same place in the log
    assert lost.checkpoint() is None
    assert (len(lost.replies), lost.state().reserved) == (1, str(30 * ONE))


def test_a_gap_in_the_requests_is_not_folded() -> None:
    life = Life()
    life.ask(reserve("x", 1))
    assert life.fold.quotas is not None
    assert not life.fold.quotas.ask([chunk(5, [encode(reserve("y", 1))])], BOOK, 0)


def test_a_request_that_cannot_be_read_stops_nothing() -> None:
    life = Life()
    life.feed(use(1, 1))
    assert life.fold.quotas is not None
    requests = [b"noise", None, encode(Commit("c", "me", "a", "none", 1, "1"))]
    life.fold.quotas.ask([chunk(0, requests)], BOOK, 1)
    life.checkpoint()
    assert [u.offset for u in life.fold.quotas.take_unreadable()] == [0, 1]
    assert [r.reason for r in life.replies] == ["unknown_lease"]


def test_a_limit_that_comes_later_begins_with_what_was_metered() -> None:
    before = Life(quotas=None)
    before.feed(use(1, 70), book=PLAIN)
    before.checkpoint()
    life = before.again(quotas=RULES)  # a state of a time before quotas
    life.feed(use(2, 5))
    life.checkpoint()
    assert life.state().posted == str(75 * ONE)


def test_nothing_is_judged_before_time_is_known() -> None:
    life = Life()
    life.fold.begin(0)
    life.fold.adopt(BOOK)
    quotas = life.fold.quotas
    assert quotas is not None
    assert (quotas.heartbeat(NOW), life.checkpoint(), quotas.needs_time(NOW)) == (None, None, True)
    life.feed(tick(-1))
    changes = life.checkpoint()
    assert changes is not None
    profiles = [decode_state(o.value) for o in changes.outputs if o.topic == "states" and o.value]
    assert {p.customer for p in profiles if isinstance(p, QuotaProfile)} == {"a", "b"}
    assert life.fold.watermark == 0


def test_a_fact_is_learnt_once() -> None:
    life = Life()
    grant = GrantFact("g", "a", "l", str(50 * ONE), NOW - HOUR, actor="ops", reason="sorry")
    refused = GrantFact("h", "a", "none", str(ONE), NOW - HOUR)
    assert life.fold.quotas is not None
    life.fold.quotas.learn(3, grant)  # time is not known yet: it waits
    life.feed(use(1, 100))
    life.fold.quotas.learn(4, refused)
    life.checkpoint()
    after = life.again()
    assert after.fold.quotas is not None
    for offset, fact in ((3, grant), (4, refused)):
        after.fold.quotas.learn(offset, fact)
    after.feed(use(2, 10))
    after.checkpoint()
    assert (after.state().amount, after.state().remaining) == (str(150 * ONE), str(40 * ONE))
    assert [e.event for e in after.happened if e.event in ("grant_added", "refused")] == [
        "grant_added",
        "refused",
    ]


def test_quotas_move_with_their_customer_to_a_new_partition() -> None:
    life = Life()
    life.feed(use(1, 60), use(2, 20, customer="b"))
    life.ask(reserve("x", 30))
    life.checkpoint()
    assert life.saved is not None
    assert {meter_customer(key) for key in life.entries} == {"a", "b"}
    count, to = 2, partition_of("a", 2)
    child = Life(to, count, saved=meter_child(life.saved, BOOK, to, count))
    assert child.fold.quotas is not None
    assert child.fold.quotas.requests is None
    child.feed(use(3, 5))
    child.checkpoint()
    assert (child.state().posted, child.state().reserved) == (str(65 * ONE), str(30 * ONE))


def test_readers_are_told_where_a_customer_is_before_it_uses_anything() -> None:
    life = Life()
    life.feed(use(1, 60))
    life.checkpoint()
    assert life.saved is not None
    to = partition_of("a", 2)
    moved = meter_child(life.saved, BOOK, to, 2)
    child = Life(to, 2, saved=moved, entries={entry.key: entry for entry in moved.entries})
    assert child.fold.quotas is not None
    assert child.fold.quotas.is_urgent
    changes = child.checkpoint()
    assert changes is not None
    told = [decode_state(o.value) for o in changes.outputs if o.topic == "states" and o.value]
    assert "a" in {record.customer for record in told if isinstance(record, QuotaProfile)}
    assert child.state().posted == str(60 * ONE)
    again = child.again(partition=to, partitions=2)
    assert again.fold.quotas is not None
    assert not again.fold.quotas.is_urgent


def test_a_request_in_a_partition_that_is_not_its_customers_is_refused() -> None:
    wrong = 1 - partition_of("a", 2)
    life = Life(wrong, 2)
    life.fold.begin(0)
    life.ask(reserve("x", 30))
    life.checkpoint()
    assert [r.reason for r in life.replies] == ["wrong_partition"]


def test_totals_of_a_customer_called_quota_are_totals() -> None:
    text = LIMITED.replace("id: b, name: B", "id: quota, name: B")
    life, book = Life(), catalog(text)
    life.feed(use(1, 60, customer="quota"), book=book)
    life.checkpoint()
    assert life.saved is not None
    after = MeterFold(MeterRules(0, 1, "e", "h", "r", quotas=RULES))
    after.restore(life.saved)
    after.adopt(book)
    assert len(after._table._totals) == 2
