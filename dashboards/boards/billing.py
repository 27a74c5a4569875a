"""Billing sync: planned, sent, verified; what drifts, is carried, waits, or comes close to Stripe's limits."""

from dashboards import variables
from dashboards.boards import rounds
from dashboards.layout import (
    GREEN,
    PAYMENTS,
    RED,
    YELLOW,
    Board,
    Panel,
    cell,
    link_to,
    series,
    stat,
    table,
)
from dashboards.query import CURRENCY, CUSTOMER, PAYMENT, money

DONE = "('finalized', 'carried', 'dropped')"
_MINE = f"{CURRENCY} AND {CUSTOMER}"
_STATES = {
    "finalized": GREEN, "carried": GREEN, "dropped": GREEN, "verified": YELLOW, "delivered": YELLOW, "inflight": YELLOW,
    "planned": YELLOW, "unknown": RED, "blocked": RED, "blocked_tax": RED,
}  # fmt: skip
_TO_CUSTOMER = (
    "Open the customer", link_to("metering-customer", customer=cell("Customer"), currency="${currency}"),
)  # fmt: skip
# Hours that Stripe does not have; it takes usage for 35 days, the subject is `meter@epoch`.
_HOURS = f"""(SELECT customer, splitByChar('@', subject)[1] AS meter,
    toDateTime(toUInt32OrZero(splitByChar('@', subject)[2]), 'UTC') AS hour, wanted, held, verdict
    FROM billing_reconcile_current WHERE kind = 'hour' AND verdict IN ('missing', 'under') AND {CUSTOMER})"""
_LEFT = "dateDiff('day', now('UTC'), hour + INTERVAL 35 DAY)"
_NOT_PLANNED = f"""(SELECT c.customer AS customer, c.period AS period, c.amount AS amount, c.watermark AS closed
    FROM (SELECT * FROM period_closes_current WHERE {_MINE}) AS c
    LEFT ANTI JOIN (SELECT customer, period FROM billing_invoices_current) AS i
        ON i.customer = c.customer AND i.period = c.period)"""


def board() -> Board:
    """What happens between a close and Stripe."""
    return Board(
        uid="metering-billing",
        title="Billing sync",
        folder="Operations",
        about="From the ledger of billing sync, which exports it to ClickHouse after each round; the ledger is the truth."
        " Independent of the time range, unless a panel says so.",
        variables=[variables.currency(), variables.search(), variables.customers()],
        rows=[
            _figures(),
            [_states(), _sums()],
            [_payments(), _unpaid()],
            [_waiting()],
            [_drift()],
            [_limits(), _parked()],
            [_carry()],
            [_by_day()],
            rounds.process(),
            rounds.rounds(),
        ],
        since="now-30d",
    )


def _figures() -> list[Panel]:
    invoices = f"FROM billing_invoices_current WHERE {_MINE}"
    return [
        stat(
            "Invoices under way",
            f"SELECT toString(countIf(state NOT IN {DONE})) AS open {invoices}",
            "Invoices that are planned and not yet finalized or carried on. Independent of the time range.",
            "*Waiting* below says which and why.",
        ),
        stat(
            "Oldest unsent (UTC)",
            f"SELECT if(count() = 0, 'none', formatDateTime(min(changed), '%Y-%m-%d %H:%i')) AS oldest {invoices}"
            f" AND state NOT IN {DONE}",
            "Since when the oldest of them has stood in its state. Independent of the time range.",
            "older than a day: look whether `billing-sync run` runs, and whether Stripe answers.",
        ),
        stat(
            "Drift",
            "SELECT toString(countIf(verdict NOT IN ('ok', 'lagging'))) AS drift FROM billing_reconcile_current"
            f" WHERE {CUSTOMER}",
            "Comparisons whose newest result is a difference: rated, planned, sent and held by Stripe are not the same."
            " Independent of the time range.",
            "`billing-sync reconcile` explains each, `--repair` mends what can be mended.",
        ),
        stat(
            "Days to Stripe's limit",
            f"SELECT if(count() = 0, 'nothing waits', toString(min({_LEFT}))) AS days FROM {_HOURS}",
            "Days until the oldest hour that Stripe does not have is too old to be sent: Stripe takes usage for 35 days."
            " Independent of the time range.",
            "below seven: find out today why hours are not sent; afterwards they can only be invoiced.",
        ),
    ]


def _states() -> Panel:
    return table(
        "By state ($currency)",
        f"SELECT state AS State, count() AS Invoices, {money('sum(rated)')} AS Rated, {money('sum(invoiced)')} AS Invoiced,"
        f" min(changed) AS Oldest FROM billing_invoices_current WHERE {_MINE} GROUP BY state ORDER BY Invoices DESC, state",
        "Invoices of all time: planned, inflight, delivered, verified, finalized; or carried on because they are too small."
        " Independent of the time range.",
        "`unknown` is looked up before it is sent again; `blocked` waits for a person.",
        width=14,
        right=["Rated", "Invoiced"],
        states={"State": _STATES},
    )


def _sums() -> Panel:
    return table(
        "Nothing is lost ($currency)",
        f"""SELECT title AS Sum, {money("amount")} AS Amount FROM (
    SELECT 1 AS place, 'rated' AS title, sum(rated) AS amount FROM billing_invoices_current WHERE {_MINE}
    UNION ALL SELECT 2, '+ carried into invoices', sum(carried_before) FROM billing_invoices_current WHERE {_MINE}
    UNION ALL SELECT 3, '− invoiced', sum(invoiced) FROM billing_invoices_current WHERE {_MINE}
    UNION ALL SELECT 4, '− carried out of invoices', sum(carried_after) FROM billing_invoices_current WHERE {_MINE}
    UNION ALL SELECT 5, '= unaccounted for', sum(rated + carried_before - invoiced - carried_after)
        FROM billing_invoices_current WHERE {_MINE}
) ORDER BY place""",
        "Rounding to cents happens once a line, and the remainder is carried to the next invoice: the last row is zero."
        " Independent of the time range.",
        "not zero: stop billing sync, then compare ledger and books with `metering watch --once`.",
        width=10,
        right=["Amount"],
    )


def _payments() -> Panel:
    return table(
        "Payments ($currency)",
        f"SELECT {PAYMENT} AS Payment, count() AS Invoices, {money('sum(invoiced)')} AS Invoiced FROM billing_invoices_current"
        f" WHERE {_MINE} AND state = 'finalized' GROUP BY Payment ORDER BY Invoices DESC, Payment",
        "What the payment provider said last of each final invoice; webhooks tell it, and reconciling finds what they missed."
        " Invoices in files stay open: nobody says that they are paid. Independent of the time range.",
        "`not known`: the invoice is from before payments were recorded; it is known after the next reconciliation.",
        width=8,
        right=["Invoiced"],
        states={"Payment": PAYMENTS},
        height=8,
    )


def _unpaid() -> Panel:
    return table(
        "Not paid ($currency)",
        f"SELECT customer AS Customer, period AS Period, number AS Number, {PAYMENT} AS Payment, {money('invoiced')} AS Invoiced,"
        " if(payment = '', changed, payment_told) AS Since FROM billing_invoices_current"
        f" WHERE {_MINE} AND state = 'finalized' AND invoiced > 0 AND payment NOT IN ('paid', 'void')"
        " ORDER BY payment = 'failed' DESC, Since, customer LIMIT 200",
        "Final invoices that are not paid, those whose payment failed first, then the oldest. Independent of the time range.",
        "a failed payment: the provider tries again as its settings say; ask the customer for another card before it gives up.",
        width=16,
        right=["Invoiced"],
        states={"Payment": PAYMENTS},
        links={"Customer": _TO_CUSTOMER},
        height=8,
    )


def _waiting() -> Panel:
    return table(
        "Waiting ($currency)",
        f"SELECT customer AS Customer, period AS Period, state AS State, reason AS Why, {money('rated')} AS Rated,"
        f" changed AS Since, invoice AS Invoice FROM billing_invoices_current WHERE {_MINE} AND state NOT IN {DONE}"
        " ORDER BY changed, customer LIMIT 200",
        "Invoices that are not done, the oldest first. Independent of the time range.",
        "what the reason says; `billing-sync retry INVOICE` tries one again.",
        right=["Rated"],
        states={"State": _STATES},
        links={"Customer": _TO_CUSTOMER},
        height=8,
    )


def _drift() -> Panel:
    return table(
        "Differences",
        "SELECT customer AS Customer, period AS Period, kind AS What, subject AS Subject, verdict AS Verdict,"
        " toString(wanted) AS Wanted, toString(held) AS Held, note AS Note, checked AS Checked"
        f" FROM billing_reconcile_current WHERE verdict != 'ok' AND {CUSTOMER}"
        " ORDER BY (verdict = 'lagging'), checked DESC, customer, subject LIMIT 200",
        "What the last reconciliation found: minor units of invoices and lines, micro-units of plans, quantities of hours."
        " Lagging hours are too new to judge. Independent of the time range.",
        "`billing-sync reconcile --repair`.",
        right=["Wanted", "Held"],
        states={"Verdict": {"lagging": YELLOW, "missing": RED, "under": RED, "over": RED, "foreign": RED}},
        links={"Customer": _TO_CUSTOMER},
        height=8,
    )


def _limits() -> Panel:
    return table(
        "Hours that Stripe does not have",
        f"SELECT customer AS Customer, meter AS Meter, hour AS Hour, verdict AS Verdict, toString(wanted) AS Wanted,"
        f' toString(held) AS Held, {_LEFT} AS "Days left" FROM {_HOURS} ORDER BY hour, customer, meter LIMIT 200',
        "Hours of usage that were to be reported to a meter of Stripe, the oldest first; they can be sent for 35 days."
        " Independent of the time range.",
        "`billing-sync reconcile --repair`, before no days are left.",
        width=12,
        right=["Wanted", "Held"],
        height=8,
    )


def _parked() -> Panel:
    return table(
        "Closed and not planned ($currency)",
        f"SELECT customer AS Customer, period AS Period, {money('amount')} AS Amount, closed AS Closed FROM {_NOT_PLANNED}"
        " ORDER BY closed, customer LIMIT 200",
        "Closed periods without an invoice: billing sync has not seen them yet, or they are parked because no customer of"
        " Stripe is known for them. Independent of the time range.",
        "`billing-sync status` says why; map the customer, nothing was dropped.",
        width=12,
        right=["Amount"],
        links={"Customer": _TO_CUSTOMER},
        height=8,
    )


def _carry() -> Panel:
    return table(
        "Carried on ($currency)",
        f"""SELECT customer AS Customer, newest.1 AS Period, {money("newest.2")} AS Carried, newest.3 AS Since
FROM (SELECT customer, argMax((period, carried_after, changed), (period, version)) AS newest
    FROM billing_invoices_current WHERE {_MINE} GROUP BY customer)
WHERE newest.2 != 0 ORDER BY newest.2 DESC, customer LIMIT 200""",
        "Remainders below a cent, small totals and credits that go into the customer's next invoice."
        " Independent of the time range.",
        "at the end of an account: `billing-sync settle CUSTOMER`.",
        right=["Carried"],
        links={"Customer": _TO_CUSTOMER},
        height=8,
    )


def _by_day() -> Panel:
    return series(
        "Finalized by day ($currency)",
        f"SELECT toStartOfDay(changed) AS time, sum(invoiced) AS invoiced FROM billing_invoices_current"
        f" WHERE {_MINE} AND state = 'finalized' AND $__timeFilter(changed) GROUP BY time ORDER BY time",
        "Sums of invoices by the day on which they were finalized.",
        "no bars after a close of month: look at *Waiting*.",
        decimals=2,
        height=7,
    )
