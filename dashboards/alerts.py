"""Alerts on facts that only the books hold, as Grafana's provisioning reads them.

Whether processes run and keep up is Prometheus' business (`dashboards/prometheus/`). No browser
expands an alert's query: no variables, no conditions, only the macros of the backend.
"""

from typing import Any, NamedTuple

from dashboards.query import BOOKS, PLUGIN_VERSION, UNEXPLAINED

RUNBOOK = "docs/runbooks.md"
_INTERVAL_MS = 60_000
DAY = 86_400


class Rule(NamedTuple):
    """Fires while its one number is above a limit for some time; looks back `seconds`."""

    uid: str
    title: str
    sql: str
    says: str
    board: str
    panel: str
    waits: str = "5m"
    limit: int = 0
    seconds: int = 35 * DAY
    severity: str = "page"


RULES = [
    Rule(
        "metering-close-differs",
        "A closed period differs from its charges",
        "SELECT now() AS time, count() AS value FROM close_check WHERE NOT agrees",
        "{{ $values.B.Value }} closed billing periods do not have the charges that their close records speak of. Do not bill them.",
        "metering-close",
        "Checklist",
    ),
    Rule(
        "metering-charge-unexplained",
        "Charges are not the sum of their parts",
        f"SELECT now() AS time, count() AS value FROM {UNEXPLAINED}",
        "{{ $values.B.Value }} charges differ from the sum of their tiers, effects and rounding.",
        "metering-quality",
        "Do the books add up?",
    ),
    Rule(
        "metering-usage-unpriced",
        "Usage has no price",
        "SELECT now() AS time, uniqExact(customer, meter) AS value FROM rating_errors_current WHERE $__timeFilter(hour)",
        "{{ $values.B.Value }} meters of customers have usage that no rate card prices. Their periods will not be billed.",
        "metering-close",
        "Checklist",
        severity="ticket",
    ),
    Rule(
        "metering-letters-old",
        "Dead letters wait for more than a week",
        "SELECT now() AS time, count() AS value FROM rejected_open"
        " WHERE $__timeFilter(appended) AND appended < now() - INTERVAL 7 DAY",
        "{{ $values.B.Value }} refused events have waited for more than a week. After 35 days they cannot count any more.",
        "metering-quality",
        "By reason",
        severity="ticket",
    ),
    Rule(
        "metering-billing-drift",
        "Stripe and the books differ",
        "SELECT now() AS time, count() AS value FROM billing_reconcile_current WHERE verdict NOT IN ('ok', 'lagging')",
        "{{ $values.B.Value }} comparisons of billing sync found a difference between the books, the ledger and Stripe.",
        "metering-billing",
        "Differences",
    ),
    Rule(
        "metering-invoices-waiting",
        "Invoices wait for more than a day",
        "SELECT now() AS time, count() AS value FROM billing_invoices_current"
        " WHERE state NOT IN ('finalized', 'carried', 'dropped') AND changed < now() - INTERVAL 1 DAY",
        "{{ $values.B.Value }} invoices have not been finalized for more than a day.",
        "metering-billing",
        "Waiting ($currency)",
        severity="ticket",
    ),
    Rule(
        "metering-payments-failed",
        "Payments have failed",
        "SELECT now() AS time, count() AS value FROM billing_invoices_current"
        " WHERE payment = 'failed' AND $__timeFilter(payment_told)",
        "The payments of {{ $values.B.Value }} invoices failed, and they are not paid since.",
        "metering-billing",
        "Not paid ($currency)",
        severity="ticket",
    ),
    Rule(
        "metering-rows-refused",
        "ClickHouse has refused rows of ours",
        "SELECT now() AS time, count() AS value FROM rejected_current WHERE reason = 'sink_refused' AND $__timeFilter(appended)",
        "{{ $values.B.Value }} rows of the books were refused by ClickHouse. The dead letters say which and why.",
        "metering-quality",
        "Do the books add up?",
    ),
]


def anchor(rule: Rule) -> str:
    """The heading of the runbook that belongs to a rule."""
    return rule.uid.removeprefix("metering-")


def provisioning(panels: dict[tuple[str, str], int]) -> dict[str, Any]:
    """The file of one group; `panels` gives the id of a panel by its dashboard and title."""
    rules = [_rule(rule, panels[rule.board, rule.panel]) for rule in RULES]
    group = {"orgId": 1, "name": "metering-books", "folder": "Alerts", "interval": "5m", "rules": rules}
    return {"apiVersion": 1, "groups": [group]}


def _rule(rule: Rule, panel: int) -> dict[str, Any]:
    return {
        "uid": rule.uid,
        "title": rule.title,
        "condition": "C",
        "data": [_question(rule), _last(), _above(rule.limit)],
        "noDataState": "OK",  # an empty database has nothing wrong in it
        "execErrState": "Error",
        "for": rule.waits,
        "labels": {"severity": rule.severity},
        "annotations": {
            "summary": rule.says,
            "runbook_url": f"{RUNBOOK}#{anchor(rule)}",
            "__dashboardUid__": rule.board,
            "__panelId__": str(panel),
        },
        "isPaused": False,
    }


def _question(rule: Rule) -> dict[str, Any]:
    model = {
        "refId": "A", "pluginVersion": PLUGIN_VERSION, "editorType": "sql", "queryType": "table", "format": 1,
        "rawSql": rule.sql, "meta": {}, "intervalMs": _INTERVAL_MS, "maxDataPoints": 1000,
    }  # fmt: skip
    return {
        "refId": "A",
        "datasourceUid": BOOKS.uid,
        "relativeTimeRange": {"from": rule.seconds, "to": 0},
        "model": model,
    }


def _last() -> dict[str, Any]:
    model = {"refId": "B", "type": "reduce", "expression": "A", "reducer": "last"}
    return _expression(model)


def _above(limit: int) -> dict[str, Any]:
    condition = {"evaluator": {"type": "gt", "params": [limit]}}
    return _expression({"refId": "C", "type": "threshold", "expression": "B", "conditions": [condition]})


def _expression(model: dict[str, Any]) -> dict[str, Any]:
    whole = {**model, "datasource": {"type": "__expr__", "uid": "__expr__"}}
    return {
        "refId": model["refId"],
        "datasourceUid": "__expr__",
        "relativeTimeRange": {"from": 600, "to": 0},
        "model": whole,
    }
