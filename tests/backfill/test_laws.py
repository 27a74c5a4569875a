"""The laws of a backfill: the books are those of the exchanged events, and a revert brings them back."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.backfill.preparing import Prepared
from metering.backfill.request import Request, Scope, read_request
from metering.state.calendar import HOUR_MS, period_end
from tests.backfill.world import Sums, World, amounts, usage
from tests.state.folding import NOW, START, tick

DAY = 24 * HOUR_MS
CLOSE = NOW - (period_end("2023-11") + 24 * HOUR_MS)  # idle so long, the watermark closes November
WATERMARKS = st.sampled_from([[], [CLOSE]])  # November is in its grace, or closed
# Two hours, a day later in the month, and the next month, which is open.
TIMES = st.sampled_from([START + h * HOUR_MS for h in (3, 4, 9 * 24, 30 * 24 + 2)])


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


def changed(draw: Any, line: bytes) -> bytes:
    """The same event with other data."""
    body = json.loads(line)
    return json.dumps({**body, "data": {**body["data"], "n": draw(st.sampled_from(["3", "7.25"]))}}).encode()


def asked(draw: Any, there: list[bytes], name: str) -> Request:
    """A file of events as they are, with other data, and new ones; only those that may stand in it."""
    mode = draw(st.sampled_from(["add", "replace"]))
    scope = scopes(draw, mode)
    same, other = draw(st.lists(st.sampled_from(there), max_size=4)), draw(st.sampled_from(there))
    lines = [
        *same,
        *([changed(draw, other)] if mode == "replace" else []),
        *draw(st.lists(events(20), max_size=4)),
    ]
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


@settings(max_examples=25, deadline=None)
@given(st.lists(events(0), min_size=1, max_size=10), WATERMARKS, WATERMARKS, st.data())
def test_books_are_those_of_the_exchanged_events_and_a_revert_brings_them_back(
    there: list[bytes], first: list[int], second: list[int], data: st.DataObject
) -> None:
    world, ticks = World(), [*map(tick, first)]
    world.send(*there, *ticks)
    known = there
    applied = []
    for name in ("one", "two", "three"):
        request = asked(data.draw, known, name)
        known = [*known, *(line.raw for line in request.lines)]
        states = (world.charges(), world.metered())
        if not apply(world, request, ticks):
            continue
        if data.draw(st.booleans()):
            revert(world, name, *states)
        else:
            applied.append((name, *states))
    world.send(*map(tick, second))  # what was applied in the grace may be reverted behind the close
    for name, charges, totals in reversed(applied):
        revert(world, name, charges if not second else None, totals)
    undone = World()
    undone.send(*there, *ticks, *map(tick, second))
    assert world.charges() == undone.charges()


def apply(world: World, request: Request, ticks: list[bytes]) -> bool:
    """Carry out a backfill and compare; False when it is refused as a whole."""
    prepared = world.prepare(request)
    if any(one.plan.problems for one in prepared):
        return False
    model, before, letters = exchanged(world, request), world.charges(), len(world.letters)
    model.send(*ticks)
    world.carry_out(prepared)
    assert len(world.letters) == letters, "a plan is sent only when all of it counts"
    assert world.metered() == model.metered()
    assert world.charges() == model.charges()
    foretold = {(a.customer, a.period, a.price): a.after - a.before for a in amounts(prepared)}
    assert foretold == difference(before, world.charges())
    assert not left(world.prepare(request))
    return True


def revert(world: World, name: str, charges: Sums | None, totals: Any) -> None:
    before = world.charges()
    prepared = world.prepare_revert(name)
    assert not [problem for one in prepared for problem in one.plan.problems]
    world.carry_out(prepared)
    assert world.metered() == totals
    assert charges is None or world.charges() == charges
    foretold = {(a.customer, a.period, a.price): a.after - a.before for a in amounts(prepared)}
    assert foretold == difference(before, world.charges())
    assert not left(world.prepare_revert(name))


def difference(before: Sums, after: Sums) -> Sums:
    moved = {place: after.get(place, 0) - before.get(place, 0) for place in before.keys() | after.keys()}
    return {place: amount for place, amount in moved.items() if amount}


def left(prepared: list[Prepared]) -> list[Any]:
    """What a second run would send."""
    return [operation for one in prepared for operation in one.plan.operations]
