"""The laws of a backfill: the books are those of the exchanged events, and a revert brings them back."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.backfill.request import Request, Scope, read_request
from metering.state.calendar import HOUR_MS, period_end
from tests.backfill.world import World, amounts, usage
from tests.state.folding import NOW, START, tick

DAY = 24 * HOUR_MS
CLOSE = NOW - (period_end("2023-11") + 24 * HOUR_MS)  # idle so long, the watermark closes November
GRACE = NOW - (period_end("2023-11") + 12 * HOUR_MS)
WATERMARKS = st.sampled_from([[], [GRACE], [CLOSE]])
# Two hours, a day later in the month, and the next month.
TIMES = st.sampled_from([START + 3 * HOUR_MS, START + 4 * HOUR_MS, START + 9 * DAY, START + 31 * DAY])


@st.composite
def events(draw: st.DrawFn, first: int) -> bytes:
    return usage(
        draw(st.integers(first, first + 8)),
        str(draw(st.sampled_from([0, 1, 2.5, 40]))),
        draw(st.sampled_from("abc")),
        draw(TIMES) + draw(st.integers(0, 3)),
        region=draw(st.sampled_from(["eu", "us"])),
        user=draw(st.sampled_from(["u1", "u2"])),
        source=draw(st.sampled_from(["", "other"])),
    )


def scopes(draw: Any, mode: str) -> Scope:
    if mode == "add":
        return Scope()
    starts, days = draw(st.sampled_from([START, START + 4 * HOUR_MS])), draw(st.sampled_from([1, 40]))
    customers = draw(st.sampled_from([frozenset("a"), frozenset("abc")]))
    source = draw(st.sampled_from([None, "", "other"]))
    return Scope(customers, frozenset({"use"}), source, starts, starts + days * DAY)


def asked(draw: Any, there: list[bytes], name: str) -> Request:
    """A file of events as they are, with other data, and new ones; only those that may stand in it."""
    mode = draw(st.sampled_from(["add", "replace"]))
    scope = scopes(draw, mode)
    lines = draw(st.lists(st.one_of(st.sampled_from(there), events(0), events(20)), max_size=8))
    found = read_request("u.jsonl", b"\n".join(lines), mode, scope, "anna", "why", name)
    wrong = {problem.line for problem in found.problems}
    kept = [line for number, line in enumerate(lines, 1) if number not in wrong]
    return read_request("u.jsonl", b"\n".join(kept), mode, scope, "anna", "why", name)


def exchanged(world: World, request: Request) -> World:
    """The naive model: other events, counted from the beginning."""
    events = world.counting()
    if request.mode == "replace":
        events = {place: e for place, e in events.items() if not request.scope.has(e)}
    model = World()
    sent = {line.event.id + line.event.source + line.event.customer: line.raw for line in request.lines}
    for (customer, source, name), event in events.items():
        as_sent = usage(0, customer=customer, source=source, at=event.at, id=name, data=event.data)
        sent.setdefault(name + source + customer, as_sent)
    model.send(*sent.values())
    return model


@settings(max_examples=120, deadline=None)
@given(st.lists(events(0), min_size=1, max_size=10), WATERMARKS, WATERMARKS, st.data())
def test_books_are_those_of_the_exchanged_events_and_a_revert_brings_them_back(
    there: list[bytes], first: list[int], second: list[int], data: st.DataObject
) -> None:
    world = World()
    world.send(*there, *map(tick, first))
    request = asked(data.draw, there, "one")
    before, totals = world.charges(), world.metered()
    prepared = world.prepare(request)
    if any(one.plan.problems for one in prepared):
        return  # nothing is sent
    model = exchanged(world, request)
    model.send(*map(tick, first))
    letters = len(world.letters)
    world.carry_out(prepared)
    assert len(world.letters) == letters, "a plan is sent only when all of it counts"
    assert world.metered() == model.metered()
    assert world.charges() == model.charges()
    found = {(a.customer, a.period, a.price): a.after - a.before for a in amounts(prepared)}
    after = world.charges()
    assert found == {
        p: after.get(p, 0) - before.get(p, 0)
        for p in after.keys() | before.keys()
        if after.get(p, 0) != before.get(p, 0)
    }
    assert not [o for one in world.prepare(request) for o in one.plan.operations], "nothing is left"
    world.send(*map(tick, second))
    world.carry_out(world.prepare_revert("one"))
    assert world.metered() == totals
    undone = World()
    undone.send(*there, *map(tick, first), *map(tick, second))
    assert world.charges() == undone.charges()
    assert not [o for one in world.prepare_revert("one") for o in one.plan.operations]
