"""The rows of the dashboard *Pipeline* on `metering watch` and quotad; from Prometheus."""

from dashboards.layout import Panel, curves
from dashboards.query import promql, quantile


def watch() -> list[Panel]:
    """What `metering watch` found, and what its checks cost."""
    return [
        curves(
            "Invariants",
            [promql("min by (invariant) (metering_invariant_holds)", "{{invariant}}")],
            "1 holds, 0 is broken; from `metering watch`.",
            "the page on invariants.",
            width=6,
        ),
        curves(
            "Rows that broke an invariant",
            [promql("max by (invariant) (metering_invariant_broken_rows)", "{{invariant}}")],
            "How many rows broke it at its last check.",
            "`metering watch --once` prints them.",
            width=6,
        ),
        curves(
            "Time of a check",
            [promql("max by (invariant) (metering_invariant_check_seconds)", "{{invariant}}")],
            "How long the last check of each invariant took.",
            "minutes: give ClickHouse more room, or look less often.",
            width=6,
            unit="s",
        ),
        curves(
            "Undecided checks",
            [
                promql(
                    "sum by (invariant) (increase(metering_invariant_undecided_total[$__rate_interval]))",
                    "{{invariant}}",
                )
            ],
            "Checks that could not be decided, because something did not answer or was behind.",
            "all of them: nobody looks after the books; see who is away.",
            width=6,
            bars=True,
        ),
    ]


def quotad() -> list[Panel]:
    """What quotad answers, how fast, and from how old a view."""
    return [
        curves(
            "quotad: answers by reason",
            [promql("sum by (reason) (rate(metering_quotad_answers_total[$__rate_interval]))", "{{reason}}")],
            "What applications were told, a second.",
            "`stale` or `no_data`: the answers come from an old view; see *how old the view is*.",
            width=6,
            bars=True,
        ),
        curves(
            "quotad: requests by status",
            [
                promql(
                    "sum by (status) (rate(metering_quotad_requests_total[$__rate_interval]))", "{{status}}"
                )
            ],
            "Requests a second by HTTP status.",
            "401: a token is wrong; 5xx: read its log.",
            width=6,
            bars=True,
        ),
        curves(
            "quotad: time of a request",
            [promql(quantile("0.99", "metering_quotad_request_seconds", "operation"), "{{operation}}")],
            "99 % of requests were answered within this time.",
            "above some milliseconds: start another quotad.",
            width=6,
            unit="s",
        ),
        curves(
            "quotad: how old the view is",
            [promql("max by (instance) (metering_quotad_silent_seconds)", "{{instance}}")],
            "How long the quietest partition was not heard of.",
            "above ten seconds it is degraded: a worker or the broker is away.",
            width=6,
            unit="s",
        ),
    ]
