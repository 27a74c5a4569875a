"""The rows of the dashboard *Billing sync* on the process itself; from Prometheus."""

from dashboards.layout import GREEN, RED, YELLOW, Panel, curves, figure
from dashboards.query import promql, quantile


def process() -> list[Panel]:
    """From Prometheus: whether `billing-sync run` goes round, and what it found."""
    return [
        figure(
            "Last round",
            promql("time() - max(metering_billing_last_round_timestamp_seconds)", instant=True),
            "How long ago a round of `billing-sync run` was done. It goes round each minute.",
            "more than an hour: its log says what is away; nothing is lost, the ledger knows what was planned.",
            unit="s",
            steps=((None, GREEN), (900, YELLOW), (3_600, RED)),
        ),
        figure(
            "Oldest invoice under way",
            promql(_age("metering_billing_oldest_unsent_timestamp_seconds"), instant=True),
            "How long the oldest invoice of the ledger that is not done has stood in its state.",
            "more than a day: *Waiting* says which and why.",
            unit="s",
            steps=((None, GREEN), (3_600, YELLOW), (86_400, RED)),
        ),
        figure(
            "Periods parked",
            promql("sum(metering_billing_parked_periods)", instant=True),
            "Closed periods that cannot be billed yet.",
            "`billing-sync status` says why for each; they are billed once the reason is gone.",
            steps=((None, GREEN), (1, YELLOW)),
        ),
        figure(
            "Oldest parked period",
            promql(_age("metering_billing_oldest_parked_timestamp_seconds"), instant=True),
            "How long the oldest of them has waited.",
            "more than three days: somebody has to map the customer or mend the books.",
            unit="s",
            steps=((None, GREEN), (86_400, YELLOW), (259_200, RED)),
        ),
    ]


def _age(family: str) -> str:
    """Seconds since the oldest of what waits; zero when nothing does."""
    return f"time() - min({family} > 0) or vector(0)"


def rounds() -> list[Panel]:
    """How rounds go: outcomes, time, the ledger, differences."""
    return [
        curves(
            "Rounds by outcome",
            [
                promql(
                    "sum by (outcome) (increase(metering_billing_rounds_total[$__rate_interval]))",
                    "{{outcome}}",
                )
            ],
            "Rounds of billing: done, or failed because ClickHouse, the ledger or the provider was away.",
            "only failures: the log of `billing-sync run` names what is away.",
            width=6,
            bars=True,
        ),
        curves(
            "Time of a round",
            [
                promql(quantile("0.5", "metering_billing_round_seconds"), "half", ref="A"),
                promql(quantile("0.99", "metering_billing_round_seconds"), "99 %", ref="B"),
            ],
            "How long rounds take; one after the close of a month sends all of it.",
            "hours: the provider's rate limit is the bound, and spreading the work keeps it from being hit.",
            width=6,
            unit="s",
        ),
        curves(
            "Invoices by state",
            [promql("sum by (state) (metering_billing_invoices)", "{{state}}")],
            "Invoices of the ledger by state, all currencies and customers.",
            "`unknown` or `blocked` grows: *Waiting* has the reasons.",
            width=6,
        ),
        curves(
            "Differences found",
            [promql("max(metering_billing_drifted)", "differences")],
            "Differences that the reconciliation of the last round found; a few customers are compared in each round.",
            "*Differences* above names them; `billing-sync reconcile --repair` mends what can be mended.",
            width=6,
        ),
    ]
