"""Home: where to go for what."""

from dashboards.layout import Board, Panel, stat, words
from dashboards.query import HOURS, money


def board() -> Board:
    """The first page after the login."""
    return Board(
        uid="metering-home",
        title="Metering",
        folder="Home",
        about="Where to go for what.",
        rows=[_state(), [_ways()]],
    )


def _state() -> list[Panel]:
    return [
        stat(
            "Charged in the range",
            "SELECT arrayStringConcat(groupArray(line), ' + ') AS charged FROM (SELECT concat("
            f"{money('sum(amount)')}, ' ', currency) AS line FROM charges_current WHERE {HOURS}"
            " GROUP BY currency ORDER BY sum(amount) DESC LIMIT 5)",
            "Charges whose hour lies in the time range, a sum for each of up to five currencies.",
            "open *Revenue*.",
            width=12,
        ),
        stat(
            "Usage is complete until (UTC)",
            "SELECT if(count() = 0, 'nothing yet', formatDateTime(min(watermark), '%Y-%m-%d %H:%i')) AS watermark"
            " FROM progress_current WHERE fold = 'meter'",
            "The lowest watermark of all partitions: hours before it are over. Independent of the time range.",
            "it stands still: open *Pipeline*, or run `metering status`.",
            width=6,
        ),
        stat(
            "Open dead letters",
            "SELECT toString(count()) AS open FROM rejected_open",
            "Refused events that wait for a person, all time. Independent of the time range.",
            "open *Data quality*.",
            width=6,
        ),
    ]


def _ways() -> Panel:
    return words(
        "Where to go",
        """| You want to know | open |
|---|---|
| what has come in, by day, plan, price and customer | [Revenue](/d/metering-revenue) |
| what one customer uses and pays, and why | [Customer](/d/metering-customer), then [Explanation](/d/metering-explanation) |
| what a unit earns, what a new price did | [Margins and rate cards](/d/metering-margins) |
| MRR, churn, retention, growth | [Finance analytics](/d/metering-finance) |
| whether the month can be billed | [Close of month](/d/metering-close) |
| who is close to a limit, who is blocked | [Quotas](/d/metering-quotas) |
| what Stripe has of it | [Billing sync](/d/metering-billing) |
| what was refused, late or sent twice | [Data quality](/d/metering-quality) |
| whether everything runs | [Pipeline](/d/metering-pipeline) |

Tables have exact amounts. Curves are drawn from rounded numbers: never copy an amount from a curve.""",
        height=13,
    )
