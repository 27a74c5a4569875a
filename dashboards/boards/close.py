"""Close of month: a list that is green, or names what is missing."""

from dashboards import variables
from dashboards.layout import GREEN, RED, YELLOW, Board, Panel, cell, link_to, stat, table
from dashboards.query import money

_PERIOD = "period = ${period:singlequote}"
_ACTIONS = """multiIf(
    step = 1, 'wait, or start the worker that is dead: metering status',
    step = 2, 'a period closes a day after its end; with no usage at all, when the partition ticks: metering status',
    step = 3, 'do not bill: metering periods --customer …',
    step = 4, 'add the price to the rate card: metering catalog publish',
    step = 5, 'decide: metering late approve, or metering rejected discard',
    step = 6, 'mend the cause: metering rejected retry, or discard',
    step = 7, 'do not bill: metering audit',
    step = 8, 'billing-sync run; then see the dashboard Billing sync',
    '')"""


def board() -> Board:
    """What finance goes through at the beginning of a month."""
    return Board(
        uid="metering-close",
        title="Close of month",
        folder="Finance",
        about="From usage to invoices, step by step, for one billing period. The time range does not matter here.",
        variables=[variables.period()],
        rows=[_verdict(), [_steps()], [_customers()]],
    )


def _verdict() -> list[Panel]:
    return [
        stat(
            "Billing period",
            f"SELECT if(count() = 0, 'nothing to close', if(sum(missing) = 0, 'ready', concat(toString(countIf(missing > 0)),"
            f" ' of ', toString(count()), ' steps are open'))) AS state FROM close_checklist WHERE {_PERIOD}",
            "Whether every step of the list below is done.",
            "go through the list from top to bottom: later steps follow from earlier ones.",
            width=8,
        ),
        stat(
            "Closed customers",
            f"SELECT concat(toString((SELECT count() FROM period_closes_current WHERE {_PERIOD})), ' of ',"
            f" toString((SELECT uniqExact(customer) FROM charges_current WHERE {_PERIOD}))) AS closed",
            "Customers with a close record, of all with charges in the period.",
            "customers close one by one, as their own usage arrives; a day after the end of the period at the earliest.",
            width=8,
        ),
        stat(
            "Closed so far",
            "SELECT arrayStringConcat(groupArray(line), ', ') AS sums FROM (SELECT concat("
            f"{money('sum(amount)')}, ' ', currency) AS line FROM period_closes_current WHERE {_PERIOD}"
            " GROUP BY currency ORDER BY currency)",
            "The sums of the close records, one for each currency. They are what is invoiced.",
            "compare with the accounts receivable of your ledger.",
            width=8,
        ),
    ]


def _steps() -> Panel:
    return table(
        "Checklist",
        f"SELECT step AS Step, title AS Check, if(missing = 0, 'done', 'missing') AS State, missing AS Missing, who AS Who,"
        f" if(missing = 0, '', {_ACTIONS}) AS Do FROM close_checklist WHERE {_PERIOD} ORDER BY step",
        "One row a condition. *Missing* counts what stands in the way, *Who* names up to five of it. Dead letters are"
        " counted by the month in which they arrived, because bytes that cannot be read have no time of their own.",
        "what the last column says.",
        height=11,
        states={"State": {"done": GREEN, "missing": RED}},
        widths={"Step": 60, "State": 90, "Missing": 90, "Do": 520},
    )


def _customers() -> Panel:
    return table(
        "Customers",
        f"""SELECT m.customer AS Customer, m.currency AS Currency, {money("m.total")} AS Charged,
    if(c.customer = '', 'open', if(c.amount != m.total, 'differs', 'closed')) AS State,
    if(c.customer = '', '', {money("c.amount")}) AS Closed
FROM (SELECT * FROM customer_months WHERE {_PERIOD}) AS m
LEFT JOIN (SELECT customer, amount FROM period_closes_current WHERE {_PERIOD}) AS c ON c.customer = m.customer
ORDER BY State DESC, m.total DESC, Customer LIMIT 500""",
        "Every customer with charges in the period, open ones first.",
        "open long after the period's end: its partition's watermark stands still, `metering status`.",
        height=12,
        right=["Charged", "Closed"],
        states={"State": {"open": YELLOW, "closed": GREEN, "differs": RED}},
        links={
            "Customer": (
                "Open the customer",
                link_to("metering-customer", customer=cell("Customer"), currency=cell("Currency")),
            )
        },
    )
