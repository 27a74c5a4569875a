"""Prometheus' rules: promtool's own tests, and what they say of metrics and runbooks that are there."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from billing_sync.metrics import Metrics as BillingMetrics
from dashboards.generate import GENERATED, HERE
from dashboards.run import load
from metering.invariants.metrics import Metrics
from metering.observe.families import REGISTRY
from metering.observe.reports import Counted, Part, Report, StateCollector
from metering.quotad.metrics import Metrics as QuotadMetrics

FOLDER = HERE / "prometheus"
RULES = ("recording.yml", "alerts.yml")
PAGES = ("dashboards.md", "invariants.md", "quotad.md")


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is missing: make promtool")
    return subprocess.run([tool, *words], cwd=FOLDER, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "words",
    [("check", "rules", *RULES), ("check", "config", "prometheus.yml"), ("test", "rules", "tests.yml")],
)
def test_promtool_agrees(words: tuple[str, ...]) -> None:
    made = promtool(*words)
    assert made.returncode == 0, made.stdout + made.stderr


def test_every_expression_of_a_panel_is_promql(tmp_path: Path) -> None:
    """As rules, because that is what promtool reads; a panel's interval is any duration."""
    found = [
        {
            "record": f"panel:{board['uid'].replace('-', '_')}:{panel['id']}",
            "expr": target["expr"].replace("$__rate_interval", "5m"),
        }
        for board in load(HERE / GENERATED)
        for panel in board["panels"]
        for target in panel.get("targets", ())
        if "expr" in target
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": found}]}))
    made = promtool("check", "rules", "--lint=none", str(file))
    assert made.returncode == 0, made.stdout + made.stderr
    assert len(found) > 30


def rules(file: str, kind: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def test_every_alert_is_seen_to_fire_and_to_stay_silent() -> None:
    cases = [
        c
        for test in yaml.safe_load((FOLDER / "tests.yml").read_text())["tests"]
        for c in test["alert_rule_test"]
    ]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert {rule["alert"] for rule in rules("alerts.yml", "alert")} == fired == silent


def test_every_alert_has_its_chapter_in_the_runbooks() -> None:
    headings = re.findall(r"^## (\S+)$", (HERE.parent / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    for rule in rules("alerts.yml", "alert"):
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbooks.md"
        assert anchor == rule["alert"].lower()
        assert rule["alert"] in headings
        assert rule["labels"]["severity"] in ("page", "ticket")


class Anyone:
    """A process that has every family."""

    def report(self) -> Report:
        return Report("sink", "1", [Part("usage.events", 0, 1, 2, 3.0, 4.0, Counted(1, 1, 0, 0, 0))])


def exposed() -> set[str]:
    """Every name that our processes expose."""
    found = set()
    quotad: Any = QuotadMetrics()
    registries = (REGISTRY, Metrics().registry, BillingMetrics().registry, quotad._registry)
    for source in (*registries, StateCollector(Anyone())):
        for family in source.collect():
            total = "_total" if family.type == "counter" else ""
            found.add(family.name + total)
            if family.type == "histogram":
                found |= {family.name + end for end in ("_bucket", "_sum", "_count")}
    return found


def asked() -> set[str]:
    """Every name that a rule or a panel asks for."""
    texts = [rule["expr"] for file in RULES for rule in rules(file, "expr")]
    texts += [
        t["expr"]
        for board in load(HERE / GENERATED)
        for p in board["panels"]
        for t in p.get("targets", ())
        if "expr" in t
    ]
    bare = [re.sub(r'"[^"]*"', "", text) for text in texts]
    return {name for text in bare for name in re.findall(r"metering[a-z_0-9:]*", text)}


def test_rules_and_panels_ask_for_metrics_that_exist() -> None:
    known = exposed() | {rule["record"] for rule in rules("recording.yml", "record")}
    assert asked() - known == set()
    assert len(asked()) > 12


def family(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_every_family_is_seen_on_a_panel_or_by_a_rule() -> None:
    assert {family(name) for name in exposed()} - {family(name) for name in asked()} == set()


def test_names_have_units_and_counters_end_in_total() -> None:
    for name in exposed():
        assert re.fullmatch(r"metering_[a-z_]+", name)
        assert not re.search(r"_(ms|millis|age)(_|$)", name), name


def test_every_metric_is_on_its_page() -> None:
    pages = "".join((HERE.parent / "docs" / name).read_text() for name in PAGES)
    told = set(re.findall(r"`(metering_[a-z_]+)", pages))
    assert {family(name) for name in exposed()} - told == set()
