"""Finance analytics: MRR, ARR, ARPU, churn, retention by cohort, lifetime value, growth; each with its definition."""

from dashboards import variables
from dashboards.layout import Board, Panel, series, stat, table, words
from dashboards.query import CURRENCY, METER, divided, money, percent

# The newest billing period that has ended before the end of the time range: a month that still runs says nothing.
_UNTIL = "toDate($__toTime + 1)"  # a range holds its last second: one to the end of a month holds the month
_ENDED = f"FROM charge_months WHERE addMonths(month, 1) <= least({_UNTIL}, toDate(now('UTC')))"
# Sets, because a comparison with a subquery's value reads every month.
_NEWEST = f"(SELECT max(month) {_ENDED})"
_NEWEST_TWO = (
    f"(SELECT arrayJoin([newest, addMonths(newest, -1)]) FROM (SELECT max(month) AS newest {_ENDED}))"
)
_MONTH = f"FROM customer_months WHERE {CURRENCY} AND month IN {_NEWEST}"
_CHANGES = f"FROM customer_changes WHERE {CURRENCY}"
_IN_RANGE = f"month >= toDate(toStartOfMonth($__fromTime)) AND addMonths(month, 1) <= {_UNTIL}"


def board() -> Board:
    """What an investor asks for."""
    return Board(
        uid="metering-finance",
        title="Finance analytics",
        folder="Finance",
        about="Months are billing periods in UTC; the newest complete one of the time range is *the month*.",
        variables=[variables.currency(), variables.meter()],
        rows=[_recurring(), _customers(), [_monthly()], [_movement(), _value()], [_cohorts()], [_growth()], [_definitions()]],
        since="now-1y",
    )  # fmt: skip


def _recurring() -> list[Panel]:
    return [
        stat(
            "MRR ($currency)",
            f"SELECT {money('sum(recurring)')} AS mrr {_MONTH}",
            "Monthly recurring revenue: flat fees and true-ups to minimum commitments of the month, before discounts on"
            " the whole bill. Usage is not in it.",
            "for a usage business, read *Revenue of the month* beside it.",
        ),
        stat(
            "ARR ($currency)",
            f"SELECT {money('sum(recurring) * 12')} AS arr {_MONTH}",
            "Annual recurring revenue: 12 × MRR.",
            "do not add it to usage revenue without saying so.",
        ),
        stat(
            "Revenue of the month ($currency)",
            f"SELECT {money('sum(total)')} AS revenue, max(period) AS of {_MONTH}",
            "All charges of the month: recurring, usage, discounts, adjustments of earlier months.",
            "open *Revenue* for its parts.",
        ),
        stat(
            "Run rate ($currency)",
            f"SELECT {money('sum(total) * 12')} AS rate {_MONTH}",
            "12 × the revenue of the month, usage included.",
            "seasonal usage makes it jump: look at the months below.",
        ),
    ]


def _customers() -> list[Panel]:
    paying = f"""SELECT sumIf(total, total > 0 AND month IN {_NEWEST}) AS now,
    sumIf(total, total > 0 AND month NOT IN {_NEWEST}) AS before
FROM customer_months WHERE {CURRENCY} AND month IN {_NEWEST_TWO} GROUP BY customer"""
    return [
        stat(
            "Paying customers",
            f"SELECT toString(countIf(total > 0)) AS customers {_MONTH}",
            "Customers whose charges of the month are above zero.",
            "*Customers gained and lost* shows who came and went.",
        ),
        stat(
            "ARPU ($currency)",
            f"SELECT {divided('sumIf(total, total > 0)', 'countIf(total > 0)')} AS arpu {_MONTH}",
            "Average revenue per customer: revenue of the month by paying customers, cut to six decimals.",
            "a few large customers pull it up; the table *By customer* of *Revenue* shows them.",
        ),
        stat(
            "Churn of customers",
            f"SELECT {percent('lost', 'had')} AS churn FROM ("
            f"SELECT countIf(before > 0 AND now = 0) AS lost, countIf(before > 0) AS had FROM ({paying}))",
            "Customers that paid in the month before and not in this one, by those that paid in the month before.",
            "call them; who comes back is counted as *back*, not as new.",
        ),
        stat(
            "Lifetime value ($currency)",
            f"""SELECT if(lost = 0, 'no churn yet', {divided("revenue * toDecimal128(had, 0)", "paying * lost")}) AS value
FROM (SELECT sumIf(total, total > 0) AS revenue, countIf(total > 0) AS paying {_MONTH}) AS a
CROSS JOIN (SELECT countIf(change = 'lost') AS lost, countIf(before > 0) AS had {_CHANGES} AND {_IN_RANGE}) AS b""",
            "ARPU of the month ÷ average monthly churn of customers in the range. It is revenue, not profit, and needs"
            " a year of months to mean something.",
            "widen the range when it jumps from month to month.",
        ),
    ]


def _monthly() -> Panel:
    return series(
        "Revenue by month ($currency)",
        f"SELECT toDateTime(month, 'UTC') AS time, sum(m.recurring) AS recurring, sum(m.total - m.recurring) AS other"
        f" FROM customer_months AS m WHERE {CURRENCY} AND $__timeFilter(toDateTime(month, 'UTC')) GROUP BY time ORDER BY time",
        "Recurring revenue, and all other charges of each billing period. The month that runs is not complete.",
        "growth of *other* is growth of usage: see *Usage growth*.",
        every="28d",
        decimals=2,
    )


def _movement() -> Panel:
    return table(
        "Customers gained and lost ($currency)",
        f"""SELECT formatDateTime(month, '%Y-%m') AS Month, countIf(change = 'new') AS New, countIf(change = 'back') AS Back,
    countIf(change = 'lost') AS Lost, {percent("countIf(change = 'lost')", "countIf(before > 0)")} AS Churn,
    {money("sumIf(total, change IN ('new', 'back'))")} AS "Revenue gained",
    {money("sumIf(total - before, change = 'grew')")} AS Expansion,
    {money("sumIf(before - total, change = 'shrank')")} AS Contraction, {money("sumIf(before, change = 'lost')")} AS "Revenue lost",
    {percent("sumIf(total, before > 0)", "sum(before)")} AS "Net retention"
{_CHANGES} AND {_IN_RANGE} GROUP BY month ORDER BY Month DESC""",
        "Each complete month against the one before. Net retention: what last month's payers pay now, by what they paid then.",
        "a net retention below 100 % means that the base shrinks: look at who contracts before who leaves.",
        width=15,
        right=["Revenue gained", "Expansion", "Contraction", "Revenue lost", "Churn", "Net retention"],
    )


def _value() -> Panel:
    return table(
        "MRR, ARR and ARPU by month ($currency)",
        f"""SELECT period AS Month, {money("sum(recurring)")} AS MRR, {money("sum(recurring) * 12")} AS ARR,
    {divided("sumIf(total, total > 0)", "countIf(total > 0)")} AS ARPU
FROM customer_months WHERE {CURRENCY} AND {_IN_RANGE} GROUP BY period ORDER BY period DESC""",
        "The figures at the top for each complete month of the range.",
        "take figures for a report from here: they do not change any more, closed periods stay as they are.",
        width=9,
        right=["MRR", "ARR", "ARPU"],
    )


def _cohorts() -> Panel:
    return table(
        "Retention by cohort ($currency)",
        f"""SELECT formatDateTime(first, '%Y-%m') AS Cohort, dateDiff('month', first, month) AS Age, paying AS Customers,
    {percent("paying", "size")} AS "Still paying", {money("revenue")} AS Revenue, {percent("revenue", "began")} AS "Of first revenue"
FROM (
    SELECT first, month, paying, revenue, max(if(month = first, paying, 0)) OVER (PARTITION BY first) AS size,
        max(if(month = first, revenue, 0)) OVER (PARTITION BY first) AS began
    FROM (SELECT first, month, countIf(total > 0) AS paying, sum(total) AS revenue {_CHANGES} GROUP BY first, month)
) WHERE {_IN_RANGE} ORDER BY Cohort, Age LIMIT 500""",
        "A cohort is the customers that first paid in the same month. *Age* is months since then; *Still paying* is of the"
        " cohort's size, *Of first revenue* of what it paid in its first month.",
        "a drop at the same age in each cohort is a defect of the product, a drop in the same month is an event.",
        height=12,
        right=["Still paying", "Revenue", "Of first revenue"],
    )


def _growth() -> Panel:
    return table(
        "Usage growth",
        f"""SELECT meter AS Meter, formatDateTime(month, '%Y-%m') AS Month, toString(quantity) AS Quantity,
    {percent("quantity - before", "before")} AS Growth, customers AS Customers
FROM (
    SELECT meter, month, quantity, customers, lagInFrame(quantity, 1, toDecimal128(0, 6)) OVER (
        PARTITION BY meter ORDER BY month ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before
    FROM (
        SELECT meter, toStartOfMonth(hour) AS month, sum(quantity) AS quantity, uniqExact(customer) AS customers
        FROM hourly_current WHERE $__timeFilter(hour) AND {METER} GROUP BY meter, month
    )
) ORDER BY Meter, Month DESC LIMIT 500""",
        "Units by meter and month, and the growth over the month before, in all currencies. The first and last month may be"
        " cut off by the range. Of meters that take a maximum, an average or different things, sums mean little.",
        "usage that grows without revenue sits in allowances: see *Margins and rate cards*.",
        right=["Quantity", "Growth"],
    )


def _definitions() -> Panel:
    return words(
        "Definitions",
        """| | is |
|---|---|
| the month | the newest billing period (calendar month, UTC) that has ended within the time range |
| MRR | flat fees + true-ups to minimum commitments of the month; before discounts on the whole bill, without usage |
| ARR | 12 × MRR |
| ARPU | revenue of paying customers ÷ paying customers; paying: charges of the month above zero |
| churn | paid last month and not this month ÷ paid last month |
| net retention | revenue this month of last month's payers ÷ their revenue last month |
| lifetime value | ARPU ÷ average monthly churn over the range; revenue, not profit |
| cohort | customers whose first month with a charge above zero is the same |

Each figure is in the one currency that is chosen. Divisions are cut, not rounded, to the digits that are shown.""",
        height=10,
    )
