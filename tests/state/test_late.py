"""Late usage under every policy: the books are the model's, however the log is cut or read again."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.rating.money import format_micro, parse_quantity
from metering.state.calendar import period
from metering.state.postings import close_digest
from tests.state.folding import chunk, meter_fold, records
from tests.state.late_world import (
    CATALOG,
    HOUR,
    PERIODS,
    TYPES,
    Books,
    Model,
    approval,
    by_price,
    record,
    run,
    use,
)

_events = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from(sorted(TYPES)),
    st.sampled_from(PERIODS),
    st.integers(0, 60),
    st.integers(0, 150),
)
_steps = st.lists(st.tuples(_events, st.sampled_from("eeeeceddaarr"), st.integers(0, 30)), max_size=30)
_cuts = st.just(list(range(200))) | st.lists(st.integers(0, 60), max_size=6)  # behind each record, or some


def log_of(steps: list[Any]) -> list[list[dict[str, Any]]]:
    """Records of events, copies, and approvals of events that came before; some in envelopes."""
    sent: list[dict[str, Any]] = []
    records: list[list[dict[str, Any]]] = []
    for number, ((customer, kind, month, hour, n), what, which) in enumerate(steps):
        event = use(number, customer, kind, month, hour, n)
        if what in "car" and sent:
            newest = max(e["time"] for e in sent)
            late = [e for e in sent if e["type"] != "call" and e["time"] < newest] if what != "c" else []
            event = (late or sent)[which % len(late or sent)]
            if what != "c":
                event = approval(event, restates=what == "r")
        else:
            sent.append(event)
        same = [e for e in records[-1] if e["customer"] == event["customer"]] if records else []
        if what == "d" and same:
            records[-1].append(event)
        else:
            records.append([event])
    return records


def modelled(records: list[list[dict[str, Any]]]) -> Model:
    model = Model()
    for events in records:
        model.feed(events)
    return model


@settings(max_examples=400, deadline=None)
@given(
    _steps,
    _cuts,
    _cuts,
    st.booleans(),
    st.sampled_from(["once", "twice", "compacted"]),
)
def test_books_are_those_of_the_model(
    steps: list[Any], meter_cuts: list[int], rate_cuts: list[int], restart: bool, way: str
) -> None:
    """Charges by period and price, revisions, and read = accepted + duplicates + rejected."""
    records = log_of(steps)
    if not records:
        return
    model = modelled(records)
    made = run([record(*r) for r in records], meter_cuts, rate_cuts, restart=restart, way=way)
    assert by_price(made) == model.by_price()
    found = made.counters
    assert (found.accepted, found.duplicates, found.rejected) == (
        model.accepted,
        model.duplicates,
        model.rejected,
    )
    assert found.read == found.accepted + found.duplicates + found.rejected == sum(map(len, records))
    assert len(made.letters) == found.rejected
    newest = {(c, p): max(r for d, q, r in made.closes if (d, q) == (c, p)) for c, p, _ in made.closes}
    assert {place: n for place, n in newest.items() if n} == dict(model.revisions)


@settings(max_examples=200, deadline=None)
@given(_steps, _cuts, _cuts, st.booleans(), st.sampled_from(["once", "twice", "compacted"]))
def test_a_replay_closes_every_period_with_the_same_books(
    steps: list[Any], meter_cuts: list[int], rate_cuts: list[int], restart: bool, way: str
) -> None:
    """Rows, digest and watermark of each revision do not depend on when was checkpointed, or compacted."""
    values = [record(*r) for r in log_of(steps)]
    if values:
        assert run(values, meter_cuts, rate_cuts, restart=restart, way=way) == run(values)


NOVEMBER, DECEMBER = (period(name).starts for name in ("2023-11", "2023-12"))
USED = {"call": "calls0", "seat": "seats1", "byte": "bytes2"}
BEFORE = [
    use(number, customer, kind, "2023-11", hour, 60)
    for number, (customer, kind, hour) in enumerate(itertools.product("ab", USED, (1, 3, 5)))
]
OPEN, IN_GRACE = [*BEFORE], [*BEFORE, use(90, "b", "call", "2023-12", 12, 1)]
CLOSED = [*IN_GRACE, use(91, "b", "call", "2023-12", 30, 1)]


def books_of(events: list[dict[str, Any]]) -> Books:
    return run([record(event) for event in events])


def changed(before: Books, after: Books) -> tuple[set[Any], set[Any], list[str]]:
    """Places of charge rows and close records that differ, and the new letters."""
    rows = {p for p in before.charges | after.charges if before.charges.get(p) != after.charges.get(p)}
    closes = {p for p in before.closes | after.closes if before.closes.get(p) != after.closes.get(p)}
    return rows, closes, [after.letters[p] for p in after.letters.keys() - before.letters.keys()]


def rows_from(kind: str, hour: int) -> set[Any]:
    """The rows of a customer's price from an hour on: their position in the tiers moves."""
    hours = {1, 3, 5, hour}
    return {("a", "2023-11", USED[kind], NOVEMBER + h * 3600) for h in hours if h >= hour}


@pytest.mark.parametrize("kind", sorted(USED))
@pytest.mark.parametrize("events", [OPEN, IN_GRACE], ids=["open", "in grace"])
def test_a_late_event_before_the_close_changes_its_hour_and_those_behind_it(
    events: list[dict[str, Any]], kind: str
) -> None:
    late = use(50, "a", kind, "2023-11", 2, 50)
    found = changed(books_of(events), books_of([*events, late]))
    assert found == (rows_from(kind, 2), set(), [])


def test_a_late_event_of_a_closed_period_changes_one_adjustment() -> None:
    found = changed(books_of(CLOSED), books_of([*CLOSED, use(50, "a", "call", "2023-11", 2, 50)]))
    assert found == ({("a", "2023-12", "calls0@2023-11", DECEMBER)}, set(), [])


@pytest.mark.parametrize(("kind", "reason"), [("seat", "late_restatement"), ("byte", "late_quarantined")])
def test_without_approval_a_held_event_changes_nothing(kind: str, reason: str) -> None:
    found = changed(books_of(CLOSED), books_of([*CLOSED, use(50, "a", kind, "2023-11", 2, 50)]))
    assert found == (set(), set(), [reason])


@pytest.mark.parametrize("kind", ["seat", "byte"])
def test_an_approved_adjustment_changes_one_row(kind: str) -> None:
    held = [*CLOSED, use(50, "a", kind, "2023-11", 2, 50)]
    found = changed(books_of(held), books_of([*held, approval(held[-1], restates=False)]))
    assert found == ({("a", "2023-12", f"{USED[kind]}@2023-11", DECEMBER)}, set(), [])


@pytest.mark.parametrize("kind", ["seat", "byte"])
def test_an_approved_restatement_changes_the_rows_of_the_closed_period(kind: str) -> None:
    held = [*CLOSED, use(50, "a", kind, "2023-11", 2, 50)]
    found = changed(books_of(held), books_of([*held, approval(held[-1], restates=True)]))
    assert found == (rows_from(kind, 2), {("a", "2023-11", 1)}, [])


def restated() -> Books:
    held = [*CLOSED, use(50, "a", "seat", "2023-11", 2, 50)]
    return books_of([*held, approval(held[-1], restates=True)])


def test_a_restated_close_describes_the_new_books_and_keeps_the_old_one() -> None:
    made = restated()
    for number, books in ((0, books_of(CLOSED)), (1, made)):
        rows = [
            (price, hour, parse_quantity(row.amount, 6))
            for (customer, name, price, hour), row in books.charges.items()
            if (customer, name) == ("a", "2023-11")
        ]
        count, amount, digest, *_ = made.closes["a", "2023-11", number]
        assert (count, digest) == (len(rows), close_digest(rows))
        assert amount == format_micro(sum(micro for *_, micro in rows))


def test_a_restated_close_names_who_wanted_it_and_why() -> None:
    (approved,) = restated().closes["a", "2023-11", 1][-1]
    assert (approved.event_id, approved.actor, approved.reason) == ("e50", "anna", "agreed")


def test_a_restatement_takes_back_an_adjustment_that_a_closed_period_holds() -> None:
    adjusted = [*CLOSED, use(50, "a", "call", "2023-11", 2, 50), use(92, "b", "call", "2024-01", 30, 1)]
    seat = use(51, "a", "seat", "2023-11", 2, 50)
    found = by_price(books_of([*adjusted, seat, approval(seat, restates=True)]))
    amount = found["a", "2023-12", "calls0@2023-11"]
    assert found["a", "2024-01", "calls0@2023-11"] == -amount
    whole = books_of([*BEFORE, use(50, "a", "call", "2023-11", 2, 50), *CLOSED[len(BEFORE) :]])
    assert found["a", "2023-11", "calls0"] == by_price(whole)["a", "2023-11", "calls0"]


HELD = use(50, "a", "seat", "2023-11", 2, 50)


@pytest.mark.parametrize(
    ("made", "reasons"),
    [
        (approval(use(77, "a", "seat", "2023-11", 2, 50), restates=True), ["unknown_event"]),
        (approval({**HELD, "data": {"n": 51}}, restates=True), ["bad_approval"]),
        (approval(HELD, restates=True, actor=""), ["bad_approval"]),
        (approval(HELD, restates=True, reason="x" * 1_001), ["bad_approval"]),
        (approval(HELD, restates=True, **{"as": "gift"}), ["bad_approval"]),
        (approval(HELD, restates=True, event="e50"), ["bad_approval"]),
        ({**approval(HELD, restates=True), "customer": "b"}, ["bad_approval"]),
        (approval(BEFORE[0], restates=False), ["unknown_event"]),
        (HELD, ["late_restatement"]),
        ({**HELD, "data": {"n": 51}}, ["conflict"]),
    ],
    ids=lambda value: str(value.get("id")) if isinstance(value, dict) else "",
)
def test_an_approval_that_cannot_be_right_is_a_dead_letter(made: dict[str, Any], reasons: list[str]) -> None:
    rows, closes, found = changed(books_of([*CLOSED, HELD]), books_of([*CLOSED, HELD, made]))
    assert (rows, closes, found) == (set(), set(), reasons)


def test_an_approved_event_counts_once_whatever_comes_again() -> None:
    log = [*CLOSED, HELD, approval(HELD, restates=True)]
    again = [approval(HELD, restates=True), HELD, approval(HELD, restates=False)]
    rows, closes, found = changed(books_of(log), books_of([*log, *again]))
    assert (rows, closes, found) == (set(), set(), ["unknown_event"])


def test_the_strictest_meter_of_an_event_decides() -> None:
    """`chat` counts for a meter that adjusts and for one that restates: half an event is no event."""
    found = changed(books_of(CLOSED), books_of([*CLOSED, use(50, "a", "chat", "2023-11", 2, 50)]))
    assert found == (set(), set(), ["late_restatement"])


def test_an_approval_comes_in_time_as_long_as_the_period_can_be_corrected() -> None:
    """Also when the event itself is older than the ids that are remembered."""
    meter = meter_fold()
    day = 24 * HOUR
    closing = use(91, "b", "call", "2023-12", 30, 1)
    steps = [
        (BEFORE, "2023-11", 2),
        ([closing, HELD], "2023-12", 3),
        ([approval(HELD, restates=True)], "2023-12", 31),
    ]
    for number, (events, name, days) in enumerate(steps):
        for event in events:
            event = {**event, "time": min(event["time"], period(name).starts * 1000 + days * day)}
            appended = period(name).starts * 1000 + days * day
            meter.fold([chunk(meter.offset or 0, [record(event)], appended)], CATALOG)
        if number == 0:
            meter.changes()
    letters = records([meter.changes()], "rejected")
    assert [letter.reason for letter in letters] == ["late_restatement"]
