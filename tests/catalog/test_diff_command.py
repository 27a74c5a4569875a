"""What a finance person reads before a new price list goes out."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metering.cli import app

SAAS = Path(__file__).parent.parent.parent / "examples" / "saas" / "catalog"


def diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *edits: tuple[str, str, str]) -> Any:
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copytree(SAAS, tmp_path / "new")
    for file, old, new in edits:
        path = tmp_path / "new" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    return CliRunner().invoke(app, ["catalog", "diff", str(SAAS), str(tmp_path / "new")])


def test_the_same_catalog_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing changes" in diff(tmp_path, monkeypatch).output


def test_a_dearer_plan_names_the_price_and_the_customers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = diff(tmp_path, monkeypatch, ("rate_cards.yaml", 'amount: "499"', 'amount: "549"')).output
    assert "prices[platform].amount: 499 → 549" in said
    assert "pebble-press has other terms" in said
    assert "marble-museum" not in said


def test_another_policy_for_late_usage_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit = ("meters.yaml", "    unit: call\n", "    unit: call\n    late: restate\n")
    assert "late: nothing → restate" in diff(tmp_path, monkeypatch, edit).output
