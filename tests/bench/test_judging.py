"""What the benchmarks call lost, doubled, too dear, and reached."""

import json

import pytest

from bench.fit import fit, points
from bench.goals import GOALS
from bench.guard import FILE, LOAD, MARGIN, batches, fold_all, is_worse, reference_loop
from bench.load import Expected
from bench.results import Found, Row, rows
from bench.scaling import SIZES, bottleneck, needs
from bench.table import is_exact
from bench.verify import compare

PLACE = ("customer-000001", "eu", 3_600)


def test_a_missing_event_is_lost() -> None:
    expected = Expected({PLACE: [30, 3]})
    assert compare({PLACE: (20, 2)}, expected)[:2] == (1, 0)


def test_an_event_too_many_is_counted_twice() -> None:
    expected = Expected({PLACE: [30, 3]})
    assert compare({PLACE: (40, 4)}, expected)[:2] == (0, 1)


def test_a_wrong_quantity_is_named() -> None:
    assert compare({PLACE: (31, 3)}, Expected({PLACE: [30, 3]})).wrong


def test_a_total_of_nobody_is_named() -> None:
    assert compare({PLACE: (1, 1)}, Expected()).wrong


@pytest.mark.parametrize("flaw", [{"lost": 1}, {"doubled": 1}, {"settings": {"wrong": ["x"]}}])
def test_a_run_with_a_flaw_is_not_exact(flaw: dict[str, object]) -> None:
    assert not is_exact([Found("row", 1, 1.0, 1.0, **flaw)])  # type: ignore[arg-type]


def test_the_guard_fails_beyond_its_margin() -> None:
    assert is_worse(3 * MARGIN + 0.01, 3)
    assert not is_worse(3 * MARGIN, 3)


def test_the_guards_ratios_are_committed() -> None:
    assert set(json.loads(FILE.read_text())) == {"plain", "compiled"}


def test_the_guards_fold_and_loop_do_the_same_job() -> None:
    catalog, chunks = batches()
    fold = fold_all(chunks, catalog, compiled=True)
    expected = Expected()
    assert fold.counters.duplicates > 0
    assert len(list(LOAD.records(expected))) == fold.counters.read
    assert sum(reference_loop(chunks).values()) == sum(q for q, _ in expected.totals.values())


def made(name: str, events: int, total_records: int) -> Found:
    """A row of a world in which an event costs 2 µs, a total 30, and the broker half of it."""
    cpu = 2 + 30 * total_records / events
    parts = {
        "total_records": total_records,
        "hourly_totals": total_records,
        "events_bytes": 40.0,
        "journal_bytes": 20.0,
        "results_bytes": 500 * total_records / events,
        "state_bytes": 30.0,
        "started_rss": 100.0,
    }
    settings = {"memory_ids": 1_000_000, "partitions": 4}
    return Found(name, events, 1.0, cpu, cpu / 2, rss=100.0, parts=parts, settings=settings)


WORLD = {row.name: row for row in rows([made("a", 1_000_000, 10_000), made("b", 500_000, 100_000)])}


def test_the_fit_finds_the_costs_of_an_event_and_of_a_total() -> None:
    known = fit(WORLD)
    assert known.event_cpu == pytest.approx(2e-6)
    assert known.total_cpu == pytest.approx(30e-6)
    assert known.total_bytes == pytest.approx(500)


def test_the_model_agrees_with_the_points_it_was_fitted_to() -> None:
    cpu = [p for p in points(WORLD, fit(WORLD)) if "CPU" in p.quantity]
    assert len(cpu) == 4
    assert all(p.predicted == pytest.approx(p.measured) for p in cpu)


def test_ten_times_the_events_need_ten_times_the_worker_cores() -> None:
    known = fit(WORLD)
    first, second = (needs(rate, known)[0].machines for rate in SIZES[:2])
    assert second == pytest.approx(10 * first)


def test_the_bottleneck_is_what_fills_most_machines() -> None:
    found = needs(SIZES[0], fit(WORLD))
    assert bottleneck(found).machines == max(need.machines for need in found)


def test_a_goal_without_its_rows_is_not_measured() -> None:
    assert not [goal for goal in GOALS if goal.reached({}) is not None]


def test_rows_keep_their_repeats() -> None:
    found = rows([Found("a", 1, 1.0, 3.0), Found("a", 1, 1.0, 2.0)])
    assert found == [Row("a", [Found("a", 1, 1.0, 3.0), Found("a", 1, 1.0, 2.0)])]
    assert found[0].cpu() == (2.0, 2.5)
