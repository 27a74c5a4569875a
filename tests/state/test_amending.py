"""Void and amend: the totals are those of the events that are left, whatever the aggregation."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.catalog.load import load_texts
from metering.offline import rate_file
from metering.records import HourlyTotal
from metering.state.fold import Changes, Saved
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules
from tests.state.folding import NOW, START, catalog, chunk, event, records

CATALOG = catalog()
EVERY = load_texts({"c.yaml": (Path(__file__).parent / "every_model.yaml").read_text()})
WHOLE = {"n": 7, "kind": "x"}
RULES = MeterRules(0, 1, "events", "hourly", "rejected")


def correction(
    number: int, original: bytes, *, instead: dict[str, Any] | None = None, **changes: Any
) -> bytes:
    body = json.loads(original)
    data = {"event": body, "actor": "anna", "reason": "a test"}
    if instead is not None:
        data["instead"] = instead
    made = {
        "id": f"fix{number}",
        "customer": body["customer"],
        "type": "metering.void" if instead is None else "metering.amend",
        "time": START,
        "data": {**data, **changes},
    }
    return json.dumps(made).encode()


def restore(number: int, original: bytes, instead: dict[str, Any]) -> bytes:
    made = json.loads(correction(number, original, instead=instead))
    return json.dumps({**made, "type": "metering.restore"}).encode()


def manifest(**changes: Any) -> bytes:
    data = {"backfill": "b1", "actor": "anna", "reason": "a test", **changes}
    made = {"id": "m1", "customer": "a", "type": "metering.backfill", "time": START, "data": data}
    return json.dumps(made).encode()


def fold(*values: bytes, using: Any = CATALOG) -> tuple[MeterFold, Changes]:
    made = MeterFold(RULES)
    made.fold([chunk(0, list(values), NOW)], using)
    changes = made.changes()
    assert changes is not None
    return made, changes


def totals(changes: Changes) -> dict[tuple[str, str, int], tuple[str, int, str]]:
    found = [r for r in records([changes], "hourly") if isinstance(r, HourlyTotal)]
    return {(r.customer, r.meter, r.hour): (r.quantity, r.events, r.digest) for r in found}


def reasons(changes: Changes) -> list[str]:
    return [r.reason for r in records([changes], "rejected")]


def test_a_voided_event_counts_no_more() -> None:
    _, made = fold(event(1, n=5), event(2, n=7), correction(1, event(1, n=5)))
    _, alone = fold(event(2, n=7))
    assert totals(made) == totals(alone)


def test_an_amended_event_counts_with_its_new_data() -> None:
    _, made = fold(event(1, n=5), correction(1, event(1, n=5), instead={"n": 9, "kind": "x"}))
    _, alone = fold(event(1, n=9))
    assert totals(made) == totals(alone)


def test_an_event_can_be_amended_again_and_voided() -> None:
    first, second = event(1, n=5), event(1, n=9)
    fixes = [correction(1, first, instead={"n": 9, "kind": "x"}), correction(2, second)]
    _, made = fold(first, *fixes)
    assert {quantity for quantity, _, _ in totals(made).values()} == {"0"}


def test_a_voided_event_can_be_restored_with_other_data_and_voided_again() -> None:
    first, second = event(1, n=5), event(1, n=9)
    fixes = [correction(1, first), restore(2, first, {"n": 9, "kind": "x"})]
    _, restored = fold(first, *fixes)
    _, voided = fold(first, *fixes, correction(3, second))
    assert totals(restored) == totals(fold(event(1, n=9))[1])
    assert {quantity for quantity, _, _ in totals(voided).values()} == {"0"}


def test_an_amended_event_that_was_voided_is_restored_by_what_was_sent_first() -> None:
    first, second = event(1, n=5), event(1, n=9)
    instead = {"n": 9, "kind": "x"}
    fixes = [correction(1, first, instead=instead), correction(2, second), restore(3, first, instead)]
    _, made = fold(first, *fixes)
    assert totals(made) == totals(fold(second)[1])


def test_the_record_of_a_backfill_counts_nothing_and_is_deduplicated() -> None:
    made, changes = fold(event(1), manifest(), manifest())
    assert (made.counters.accepted, made.counters.duplicates) == (2, 1)
    assert totals(changes) == totals(fold(event(1))[1])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([correction(1, event(9))], "unknown_event"),
        ([event(1), correction(1, event(1)), correction(2, event(1))], "already_voided"),
        ([event(1, n=5), correction(1, event(1, n=6))], "bad_correction"),
        ([event(1), correction(1, event(1), actor="")], "bad_correction"),
        ([event(1), correction(1, event(1), reason=None)], "bad_correction"),
        ([event(1), correction(1, event(1), event="e1")], "bad_correction"),
        ([event(1), correction(1, event(1), instead={"n": -1, "kind": "x"})], "bad_correction"),
        ([event(1), event(2, type="metering.delete")], "unknown_type"),
        ([event(1), restore(1, event(1), {"n": 1})], "not_voided"),
        ([event(1), correction(1, event(1)), restore(2, event(1, n=7), WHOLE)], "bad_correction"),
        ([manifest(actor="")], "bad_correction"),
        ([manifest(backfill=None)], "bad_correction"),
    ],
)
def test_a_correction_that_cannot_be_right_is_a_dead_letter(values: list[bytes], reason: str) -> None:
    _, made = fold(*values)
    assert reasons(made) == [reason]


def test_a_refused_correction_changes_nothing() -> None:
    _, made = fold(event(1, n=5), correction(1, event(1, n=6)))
    _, alone = fold(event(1, n=5))
    assert totals(made) == totals(alone)


def test_a_correction_sent_twice_is_a_duplicate() -> None:
    void = correction(1, event(1))
    made, changes = fold(event(1), void, void)
    assert (made.counters.accepted, made.counters.duplicates, reasons(changes)) == (2, 1, [])


def test_a_late_copy_of_a_voided_event_stays_a_duplicate() -> None:
    made, _ = fold(event(1), correction(1, event(1)), event(1))
    assert made.counters.duplicates == 1


def test_what_was_voided_is_known_after_a_restart() -> None:
    _, first = fold(event(1), correction(1, event(1)))
    again = MeterFold(RULES)
    kept = [entry for entry in first.entries if entry.value is not None]
    again.restore(Saved(first.offset, first.header, kept, first.segments))
    again.fold([chunk(2, [correction(2, event(1))], NOW)], CATALOG)
    changes = again.changes()
    assert changes is not None
    assert reasons(changes) == ["already_voided"]


SEATS = load_texts(
    {
        "c.yaml": """
meters:
  - {id: seats, event_type: use, aggregation: latest, value: n}
  - {id: peak, event_type: use, aggregation: max, value: n}
rate_cards:
  - {id: c, currency: USD, versions: [{from: 2023-01-01T00:00:00Z, not_charged: [seats, peak], prices: []}]}
plans: [{id: p, name: P, rate_card: c}]
customers: [{id: a, name: A, plan: p, currency: USD, start: 2023-01-01T00:00:00Z}]
"""
    }
)


def test_a_unique_value_stays_while_another_event_has_it() -> None:
    first, second = (additive(n, 1, 1, user="u") for n in (3, 6))
    _, made = fold(first, second, correction(1, first), using=ADDITIVE)
    assert [(q, n) for (_, m, _), (q, n, _) in totals(made).items() if m == "users"] == [("1", 1)]


def test_a_price_at_which_nothing_was_bought_can_be_taken_back_twice() -> None:
    values = [additive(n, 0, 7) for n in (0, 3)]
    _, made = fold(*values, *(correction(n, v) for n, v in enumerate(values)), using=ADDITIVE)
    assert {events for _, events, _ in totals(made).values()} == {0}


def test_an_extreme_that_is_not_the_event_itself_can_lose_it() -> None:
    _, made = fold(event(1, n=3), event(2, n=9, hour=0), correction(1, event(1, n=3)), using=SEATS)
    assert {m: q for (_, m, _), (q, _, _) in totals(made).items()} == {"seats": "9", "peak": "9"}


def test_an_extreme_cannot_lose_the_event_that_it_is() -> None:
    _, made = fold(event(1, n=3), event(2, n=9), correction(1, event(2, n=9)), using=SEATS)
    assert reasons(made) == ["not_invertible"]


def restated(digest: str) -> list[dict[str, Any]]:
    plain = {"quantity": "3", "events": 1, "digest": digest, "last": [START, "e1"]}
    return [{"meter": meter, "dimensions": {}, **plain} for meter in ("seats", "peak")]


def test_a_stated_total_takes_the_place_of_one_that_cannot_be_subtracted_from() -> None:
    _, before = fold(event(1, n=3), event(2, n=9), using=SEATS)
    ((_, _, digest),) = {t[2]: t for t in totals(before).values()}.values()
    void = correction(1, event(2, n=9), restated=restated(digest))
    _, made = fold(event(1, n=3), event(2, n=9), void, using=SEATS)
    _, alone = fold(event(1, n=3), using=SEATS)
    assert totals(made) == totals(alone)


def test_a_stated_total_is_refused_when_the_total_has_moved_on() -> None:
    void = correction(1, event(2, n=9), restated=restated("00000000deadbeef"))
    _, made = fold(event(1, n=3), event(2, n=9), void, using=SEATS)
    assert reasons(made) == ["outdated_correction"]


def additive(number: int, n: int, p: int, user: str = "") -> bytes:
    data = {"n": str(n), "p": str(p), "region": "eu", "size": "s", "user": user or f"u{number % 4}"}
    return event(number, customer="b", data=data, hour=5 + number % 3)


ADDITIVE = load_texts(
    {
        "c.yaml": "\n".join(
            line
            for line in (Path(__file__).parent / "every_model.yaml").read_text().splitlines()
            if not any(f"id: {m}," in line or f"meter: {m}," in line for m in ("low", "seats"))
            and "capacity" not in line
            and "id: peak" not in line
            and "id: nodes" not in line
            and "meter: peak" not in line
            and "limits:" not in line
        )
    }
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 90)), min_size=1, max_size=8, unique=True),
    st.data(),
)
def test_totals_are_those_of_the_events_that_are_left(
    found: list[tuple[int, int]], data: st.DataObject
) -> None:
    values = [additive(number, n, p) for number, (n, p) in enumerate(found)]
    gone = data.draw(st.sets(st.integers(0, len(values) - 1)))
    fixes = [correction(number, values[number]) for number in sorted(gone)]
    left = [value for number, value in enumerate(values) if number not in gone]
    _, made = fold(*values, *fixes, using=ADDITIVE)
    alone = totals(fold(*left, using=ADDITIVE)[1]) if left else {}
    assert {place: total for place, total in totals(made).items() if total[1]} == alone
    assert rate_file(ADDITIVE, "u.jsonl", b"\n".join(left)).rejected == []
