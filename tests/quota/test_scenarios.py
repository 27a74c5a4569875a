"""Scenarios as a person writes them; each once straight, and once with a restart behind every step."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.quota.scenario import Run

CASES = yaml.safe_load((Path(__file__).parent.parent / "vectors" / "quota" / "scenarios.yaml").read_text())


@pytest.mark.parametrize("case", [pytest.param(c, id=c["title"]) for c in CASES])
def test_a_scenario_ends_as_it_says(case: dict[str, Any]) -> None:
    Run(case).run()


@pytest.mark.parametrize("case", [pytest.param(c, id=c["title"]) for c in CASES])
def test_restarts_change_nothing(case: dict[str, Any]) -> None:
    straight, restarted = Run(case).run(), Run(case, restarts=True).run()
    assert restarted.all_events == straight.all_events
    assert restarted.latest == straight.latest
    assert restarted.entries == straight.entries
    assert restarted.owner.header() == straight.owner.header()
