"""The committed files are what the generator makes, and keep the house rules of dashboards."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import alerts
from dashboards.generate import GENERATED, HERE, PROVISIONING, write
from dashboards.query import BOOKS, PLUGIN, PROMETHEUS
from dashboards.run import Json, load, questions
from tests.dashboards.sdk_schema import complaints

BOARDS = load(HERE / GENERATED)
ROOT = HERE.parent
# They speak of one billing period, which a variable names: the time range does not matter.
OF_A_PERIOD = {"metering-explanation", "metering-close"}


def every_board(function: Any) -> Any:
    return pytest.mark.parametrize("board", BOARDS, ids=[board["uid"] for board in BOARDS])(function)


def sql_of(board: Json) -> list[tuple[Json, Json]]:
    return [(p, t) for p in board["panels"] for t in p.get("targets", ()) if "rawSql" in t]


def test_generating_again_gives_the_committed_files(tmp_path: Path) -> None:
    write(tmp_path)
    for folder in (GENERATED, PROVISIONING):
        made = {
            f.relative_to(tmp_path): f.read_bytes() for f in (tmp_path / folder).rglob("*") if f.is_file()
        }
        held = {f.relative_to(HERE): f.read_bytes() for f in (HERE / folder).rglob("*") if f.is_file()}
        assert sorted(made) == sorted(held)
        assert [str(name) for name in made if made[name] != held[name]] == [], "run `make dashboards`"


@every_board
def test_the_sdk_knows_every_field(board: Json) -> None:
    assert complaints(board) == []


def test_the_check_finds_a_misspelt_field_and_a_wrong_value() -> None:
    board = {**BOARDS[0], "titel": "x", "refresh": 7, "graphTooltip": 9}
    found = " ".join(complaints(board))
    assert "titel" in found
    assert "refresh" in found
    assert "graphTooltip" in found


@every_board
def test_uids_titles_and_ids_are_unique(board: Json) -> None:
    for name in ("id", "title"):
        values = [panel[name] for panel in board["panels"]]
        assert len(values) == len(set(values)), name
    for panel in board["panels"]:
        refs = [target["refId"] for target in panel.get("targets", ())]
        assert len(refs) == len(set(refs)), panel["title"]


def test_every_panel_that_is_written_is_on_a_board() -> None:
    """A panel whose function nobody calls is a panel that nobody sees."""
    trees = [ast.parse(file.read_text("utf-8")) for file in (HERE / "boards").glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    made = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    called = {node.id for node in nodes if isinstance(node, ast.Name)}
    called |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert made - called == {"board"}


def test_every_dashboard_has_a_uid_of_its_own() -> None:
    assert len({board["uid"] for board in BOARDS}) == len(BOARDS)


@every_board
def test_panels_neither_overlap_nor_leave_the_page(board: Json) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        g = panel["gridPos"]
        assert g["x"] + g["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@every_board
def test_every_panel_says_what_it_means_and_what_to_do(board: Json) -> None:
    for panel in board["panels"]:
        means, _, action = panel["description"].partition("**What to do:** ")
        assert means.strip().endswith("."), panel["title"]
        assert action.endswith("."), panel["title"]


@every_board
def test_a_query_is_bounded_in_time_or_says_that_it_is_not(board: Json) -> None:
    for panel, target in sql_of(board):
        bounded = re.search(r"\$__(timeFilter|fromTime|toTime)", target["rawSql"])
        said = "Independent of the time range" in panel["description"]
        whole = "progress_current" in target["rawSql"] or "period_closes_current" in target["rawSql"]
        named = "catalog_customers_current" in target["rawSql"]
        assert bounded or said or whole or named or board["uid"] in OF_A_PERIOD, panel["title"]


@every_board
def test_format_and_query_type_agree(board: Json) -> None:
    for panel, target in sql_of(board):
        assert (target["format"], target["queryType"]) in [(0, "timeseries"), (1, "table")], panel["title"]
        assert target["pluginVersion"]
        assert target["editorType"] == "sql"


@every_board
def test_variables_are_quoted_and_used(board: Json) -> None:
    text = "\n".join([t["rawSql"] for _, t in sql_of(board)] + [sql for _, sql in questions(board)])
    without_all = re.sub(r", \$\w+\)", ")", text)
    assert re.findall(r"\$\{\w+\}|\[\[|\$(?!__)\w+", without_all) == []
    for variable in board["templating"].get("list", ()):
        assert f"${{{variable['name']}:singlequote}}" in text, variable["name"]


@every_board
def test_no_money_is_a_float_and_no_unit_holds_a_variable(board: Json) -> None:
    for panel, target in sql_of(board):
        assert not re.search(r"toFloat|\bavg\(|\bquantile|\d\.\d+ \*|/ \d", target["rawSql"]), panel["title"]
        assert "$" not in panel["fieldConfig"]["defaults"].get("unit", ""), panel["title"]
        assert "SELECT * FROM charges " not in target["rawSql"], panel["title"]


@every_board
def test_amounts_have_one_currency(board: Json) -> None:
    """Whoever sums amounts filters by a currency, a customer's period, or groups by the currency."""
    for panel, target in sql_of(board):
        sql = target["rawSql"]
        if re.search(r"sum(If)?\((total|amount|recurring|m\.amount)", sql):
            kept = "currency = ${currency:singlequote}" in sql or "GROUP BY currency" in sql
            assert kept or "price = ${price:singlequote}" in sql, panel["title"]


@every_board
def test_only_views_and_small_tables_are_read(board: Json) -> None:
    """FINAL stands in the views: a panel that reads a table counts replays twice."""
    for panel, target in sql_of(board):
        read = set(re.findall(r"(?:FROM|JOIN) ([a-z_]+)", target["rawSql"]))
        assert not read & {"charges", "hourly", "events", "rejected", "progress", "period_closes"}, panel[
            "title"
        ]


def test_all_links_lead_to_a_dashboard_and_its_variables() -> None:
    text = "".join(file.read_text("utf-8") for file in (HERE / GENERATED).rglob("*.json"))
    known = {board["uid"]: {v["name"] for v in board["templating"].get("list", ())} for board in BOARDS}
    links = re.findall(r"/d/([a-z-]+)\?\$\{__url_time_range\}([^\"]*)", text)
    assert links
    for uid, rest in links:
        assert uid in known
        assert set(re.findall(r"var-(\w+)=", rest)) <= known[uid], uid
    for uid in re.findall(r"\]\(/d/([a-z-]+)\)", text):
        assert uid in known


def test_the_way_down_from_revenue_to_the_explanation() -> None:
    text = {board["uid"]: str(board) for board in BOARDS}
    assert "/d/metering-customer?" in text["metering-revenue"]
    assert "/d/metering-explanation?" in text["metering-customer"]


# -- provisioning ---------------------------------------------------------------------------------


def provisioned(name: str) -> Json:
    return dict(yaml.safe_load((HERE / PROVISIONING / name).read_text("utf-8")))


def test_the_data_sources_are_those_of_the_dashboards() -> None:
    found = {one["uid"]: one for one in provisioned("datasources/metering.yaml")["datasources"]}
    assert set(found) == {BOOKS.uid, PROMETHEUS.uid}
    books = found["metering-clickhouse"]
    assert books["type"] == PLUGIN
    assert {"host", "defaultDatabase"} <= set(books["jsonData"])
    assert books["secureJsonData"]["password"].startswith("$")


def test_the_home_dashboard_is_there() -> None:
    text = (HERE / PROVISIONING / "grafana.env").read_text()
    path = re.search(r"HOME_DASHBOARD_PATH=/etc/grafana/dashboards/(\S+)", text)
    assert path
    assert (HERE / GENERATED / path[1]).is_file()


def test_each_alert_leads_to_a_panel_and_a_runbook() -> None:
    (group,) = provisioned("alerting/metering.yaml")["groups"]
    assert [rule["uid"] for rule in group["rules"]] == [rule.uid for rule in alerts.RULES]
    panels = {(b["uid"], str(p["id"])) for b in BOARDS for p in b["panels"]}
    headings = set(re.findall(r"^## (\S+)$", (ROOT / alerts.RUNBOOK).read_text(), re.MULTILINE))
    for rule in group["rules"]:
        notes = rule["annotations"]
        assert (notes["__dashboardUid__"], notes["__panelId__"]) in panels, rule["title"]
        assert notes["runbook_url"].partition("#")[2] in headings, rule["title"]


def test_alerts_use_nothing_that_only_a_browser_expands() -> None:
    for rule in alerts.RULES:
        assert not re.search(r"\$\{|\$(?!__timeFilter|__fromTime|__toTime)|conditionalAll", rule.sql), (
            rule.title
        )
