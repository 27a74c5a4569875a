"""Late usage under every policy: the books are the model's, however the log is cut or read again."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.state.late_world import (
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


def log_of(steps: list[Any]) -> list[list[dict[str, Any]]]:
    """Records of events, copies, and approvals of events that came before; some in envelopes."""
    sent: list[dict[str, Any]] = []
    records: list[list[dict[str, Any]]] = []
    for number, ((customer, kind, month, hour, n), what, which) in enumerate(steps):
        event = use(number, customer, kind, month, hour, n)
        if what in "car" and sent:
            event = sent[which % len(sent)]
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
    st.lists(st.integers(0, 60), max_size=6),
    st.lists(st.integers(0, 90), max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_books_are_those_of_the_model(
    steps: list[Any], meter_cuts: list[int], rate_cuts: list[int], restart: bool, replay: bool
) -> None:
    """Charges by period and price, revisions, and read = accepted + duplicates + rejected."""
    records = log_of(steps)
    if not records:
        return
    model = modelled(records)
    made = run([record(*r) for r in records], meter_cuts, rate_cuts, restart=restart, replay=replay)
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


@settings(max_examples=150, deadline=None)
@given(
    _steps,
    st.lists(st.integers(0, 60), max_size=8),
    st.lists(st.integers(0, 90), max_size=8),
    st.booleans(),
)
def test_a_replay_closes_every_period_with_the_same_books(
    steps: list[Any], meter_cuts: list[int], rate_cuts: list[int], restart: bool
) -> None:
    """Digest, number of rows and watermark of each revision do not depend on when was checkpointed."""
    values = [record(*r) for r in log_of(steps)]
    if values:
        assert run(values, meter_cuts, rate_cuts, restart=restart) == run(values)
