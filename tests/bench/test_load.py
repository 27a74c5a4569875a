"""A load is what its settings say, and its model agrees with the real fold."""

from decimal import Decimal

from bench.load import Expected, Load, catalog_text
from bench.verify import compare
from metering.catalog.load import load_texts
from metering.events import decode_values
from metering.records import HourlyTotal, decode
from metering.state.fold import Chunk
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules

MIXED = Load(events=3_000, customers=40, partitions=1, copies=0.1, late=0.1, malformed=0.05, envelope=7)


def folded(load: Load) -> tuple[MeterFold, Expected]:
    expected = Expected()
    values = [record.value for record in load.records(expected)]
    fold = MeterFold(MeterRules(0, 1, "usage.events", "usage.hourly", "usage.rejected"))
    chunk = Chunk(0, len(values), range(len(values)), values, 1_767_700_000_000)
    fold.fold([chunk], load_texts({"catalog.yaml": catalog_text(load.customers)}))
    return fold, expected


def test_the_same_settings_make_the_same_bytes() -> None:
    assert list(MIXED.records(Expected())) == list(MIXED.records(Expected()))


def test_another_seed_makes_another_load() -> None:
    other = Load(**{**MIXED.plain(), "seed": 2})
    assert list(other.records(Expected())) != list(MIXED.records(Expected()))


def test_the_model_counts_as_the_fold_does() -> None:
    fold, expected = folded(MIXED)
    found = fold.counters
    assert (found.read, found.accepted, found.duplicates, found.rejected) == (
        expected.read,
        expected.accepted,
        expected.duplicates,
        expected.rejected,
    )


def test_every_kind_of_disturbance_is_in_a_mixed_load() -> None:
    fold, expected = folded(MIXED)
    assert min(expected.duplicates, expected.rejected, fold.counters.late) > 20


def test_the_models_totals_are_the_folds() -> None:
    fold, expected = folded(MIXED)
    changes = fold.changes()
    assert changes is not None
    records = [decode(out.value) for out in changes.outputs if out.topic == "usage.hourly"]
    totals = {
        (r.customer, r.dimensions["region"], r.hour): (int(Decimal(r.quantity)), r.events)
        for r in records
        if isinstance(r, HourlyTotal)
    }
    assert compare(totals, expected) == (0, 0, [])


def test_an_envelope_holds_as_many_events_as_asked_for() -> None:
    first = next(MIXED.records(Expected()))
    assert len(list(decode_values([first.value]))) == 7


def test_a_load_that_continues_has_other_ids() -> None:
    first = Load(events=100, customers=10)
    more = Load(events=100, customers=10, first=100)
    bodies = [record.value for load in (first, more) for record in load.records(Expected())]
    assert len({item.event.id for item in decode_values(bodies)}) == 200  # type: ignore[union-attr]
