"""What a round makes of its findings, and what is remembered and exported of them."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from metering.errors import UserError
from metering.invariants import runner
from metering.invariants.base import Broken, Invariant
from metering.invariants.metrics import Metrics
from metering.invariants.runner import Finding, Watch
from metering.invariants.seen import Seen
from metering.settings import Settings

ONE, TWO = Broken("here", "1", "2"), Broken("there", "3", "4")


class Told(Invariant):
    """An invariant that finds what it is told to, look by look."""

    name = "told"
    means = "what is told"
    remedy = "Tell it."

    def __init__(self, *answers: list[Broken] | Exception, travels: bool = False) -> None:
        self.answers = list(answers)
        self.travels: bool = travels

    def check(self, facts: Any) -> list[Broken]:  # noqa: ARG002 - it is told
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class NoFacts:
    """A deployment at which nobody looks."""

    progress: ClassVar[dict[int, Any]] = {}

    def __init__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "Facts", NoFacts)
    arrives(monkeypatch, "")


def arrives(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    async def arrival(*_: object) -> str:
        return missing

    monkeypatch.setattr(runner, "arrival", arrival)


def look(tmp_path: Path, invariant: Invariant) -> Finding:
    (finding,) = Watch(Settings(home=tmp_path), [invariant]).round()
    return finding


def test_what_was_only_under_way_is_not_broken(tmp_path: Path) -> None:
    assert look(tmp_path, Told([ONE, TWO], [], travels=True)).holds


def test_what_is_still_there_when_everything_has_arrived_is_broken(tmp_path: Path) -> None:
    assert look(tmp_path, Told([ONE, TWO], [TWO], travels=True)).rows == [TWO]


def test_a_row_whose_figures_move_is_under_way(tmp_path: Path) -> None:
    assert look(tmp_path, Told([ONE], [ONE._replace(found="9")], travels=True)).holds


def test_what_has_not_arrived_in_time_is_not_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrives(monkeypatch, "usage.events is not stored to its end")
    finding = look(tmp_path, Told([ONE], [ONE], travels=True))
    assert (finding.rows, finding.holds) == ([], False)
    assert "not stored to its end" in finding.unknown


def test_what_does_not_travel_is_broken_at_once(tmp_path: Path) -> None:
    assert look(tmp_path, Told([ONE])).rows == [ONE]


@pytest.mark.parametrize("error", [UserError("ClickHouse does not answer"), ValueError("x")])
def test_a_check_that_cannot_be_made_is_not_the_end_of_the_watch(tmp_path: Path, error: Exception) -> None:
    finding = look(tmp_path, Told(error))
    assert finding.unknown == str(error)
    assert not finding.rows


def test_what_was_seen_is_remembered_by_another_process(tmp_path: Path) -> None:
    file = tmp_path / "watch" / "seen.json"
    seen = Seen(file)
    seen.note(1, 0, 50, 500, now=10)
    seen.note(1, 0, 40, 400, now=20)  # lower: not taken
    seen.save()
    again = Seen(file).place(1, 0)
    assert again is not None
    assert (again.offset, again.watermark, again.since) == (50, 500, 10)
    assert Seen(file).place(2, 0) is None


def test_the_time_of_an_undecided_check_stands_still() -> None:
    metrics, invariant = Metrics(), Told()

    def value(name: str) -> float | None:
        return metrics.registry.get_sample_value(f"metering_invariant_{name}", {"invariant": "told"})

    metrics.note([Finding(invariant, [ONE, TWO], seconds=0.5)])
    assert (value("holds"), value("broken_rows"), value("check_seconds")) == (0, 2, 0.5)
    checked = value("last_check_timestamp_seconds")
    assert checked is not None
    metrics.note([Finding(invariant, unknown="away")])
    assert value("last_check_timestamp_seconds") == checked
    assert (value("holds"), value("undecided_total")) == (0, 1)
    metrics.note([Finding(invariant)])
    assert (value("holds"), value("broken_rows")) == (1, 0)
