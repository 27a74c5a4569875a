"""Revenue: what has been charged, by day, plan, price and customer, and what has changed since last month."""

from dashboards import variables
from dashboards.layout import Board, Panel, cell, link_to, series, stat, table
from dashboards.query import CURRENCY, CUSTOMER, HOURS, METER, PLAN, REVENUE, divided, money, percent

TO_CUSTOMER = (
    "Open the customer",
    link_to("metering-customer", customer=cell("Customer"), currency="${currency}"),
)

# The month of the end of the time range, up to that instant; and as much of the month before.
_FILTERS = f"{CURRENCY} AND {PLAN} AND {METER} AND {CUSTOMER}"
_THIS = "hour >= toDateTime(toStartOfMonth($__toTime), 'UTC') AND hour <= $__toTime"
_LAST = (
    "hour >= toDateTime(addMonths(toStartOfMonth($__toTime), -1), 'UTC') AND hour <= addMonths($__toTime, -1)"
)
_BOTH = f"{_FILTERS} AND ({_THIS} OR {_LAST})"
_SUMS = f"sumIf(amount, {_THIS}) AS month, sumIf(amount, {_LAST}) AS before"


def board() -> Board:
    """The dashboard that finance opens first."""
    return Board(
        uid="metering-revenue",
        title="Revenue",
        folder="Finance",
        about="Rated charges in one currency. They become invoices when their billing period closes; this is not an invoice.",
        variables=[
            variables.currency(), variables.plan(), variables.meter(), variables.search(), variables.customers(),
        ],
        rows=[_totals(), [_by_day()], [_by_plan(), _by_price()], [_by_customer(), _movers()], [_currencies()]],
    )  # fmt: skip


def _totals() -> list[Panel]:
    return [
        stat(
            "Charged in the range ($currency)",
            f"SELECT {money('sum(amount)')} AS charged FROM revenue_rows WHERE {REVENUE}",
            "All charges whose hour lies in the time range, to the micro-unit.",
            "compare with *By price* below to see where it comes from.",
        ),
        stat(
            "Month to date ($currency)",
            f"SELECT {money('month')} AS month FROM (SELECT {_SUMS} FROM revenue_rows WHERE {_BOTH})",
            "Charges from the beginning of the month (UTC) in which the time range ends, up to that end.",
            "set the end of the range to the day that you report for.",
        ),
        stat(
            "Same part of last month ($currency)",
            f"SELECT {money('before')} AS before FROM (SELECT {_SUMS} FROM revenue_rows WHERE {_BOTH})",
            "Charges of the month before, up to the same day and hour.",
            "use it as the base of the change beside it.",
        ),
        stat(
            "Change",
            f"SELECT {percent('month - before', 'before')} AS change"
            f" FROM (SELECT {_SUMS} FROM revenue_rows WHERE {_BOTH})",
            "Month to date against the same part of last month, cut to one decimal. A dash: last month had nothing.",
            "look at *Top movers* for the customers behind it.",
        ),
    ]


def _by_day() -> Panel:
    return series(
        "Revenue by day and plan ($currency)",
        f"SELECT toStartOfDay(hour) AS time, plan, sum(amount) AS amount FROM revenue_rows WHERE {REVENUE}"
        " GROUP BY time, plan ORDER BY time, plan",
        "Charges by the day of their usage (UTC), stacked by the plan that the customer is on now. A fee stands on"
        " the first hour that it is charged for, late usage on the hour that it was used in.",
        "a day that is missing has no usage or is not rated yet: look at the dashboard *Pipeline*.",
        decimals=2,
    )


def _by_plan() -> Panel:
    return table(
        "By plan ($currency)",
        f"SELECT plan AS Plan, {money('sum(amount)')} AS Amount, uniqExact(customer) AS Customers,"
        f" {divided('sum(amount)', 'uniqExact(customer)')}"
        f' AS "A customer" FROM revenue_rows WHERE {REVENUE} GROUP BY plan ORDER BY sum(amount) DESC, plan',
        "Charges in the range by the plan of today. A customer that has changed its plan counts with the new one.",
        "open *Margins and rate cards* for what was in force when.",
        width=10,
        right=["Amount", "A customer"],
    )


def _by_price() -> Panel:
    return table(
        "By price ($currency)",
        f"SELECT price AS Price, meter AS Meter, line AS Line, toString(sum(quantity)) AS Quantity,"
        f" {money('sum(amount)')} AS Amount FROM revenue_rows WHERE {REVENUE}"
        " GROUP BY price, meter, line ORDER BY sum(amount) DESC, price, line LIMIT 200",
        "Charges in the range by the price of the rate card. A price with `@2026-10` behind it corrects that closed period.",
        "a large adjustment: `metering explain` says which late usage it is.",
        width=14,
        right=["Quantity", "Amount"],
    )


def _by_customer() -> Panel:
    return table(
        "By customer ($currency)",
        f"SELECT customer AS Customer, any(name) AS Name, any(plan) AS Plan, {money('sum(amount)')} AS Amount"
        f" FROM revenue_rows WHERE {REVENUE} GROUP BY customer ORDER BY sum(amount) DESC, customer LIMIT 200",
        "The 200 customers with the largest charges in the range.",
        "click an id for its usage, bill and explanation.",
        width=12,
        height=12,
        right=["Amount"],
        links={"Customer": TO_CUSTOMER},
    )


def _movers() -> Panel:
    return table(
        "Top movers ($currency)",
        f"SELECT customer AS Customer, name AS Name, {money('before')} AS Before, {money('month')} AS Now,"
        f" {money('month - before')} AS Change FROM (SELECT customer, any(name) AS name, {_SUMS} FROM revenue_rows"
        f" WHERE {_BOTH} GROUP BY customer) WHERE month != before ORDER BY abs(month - before) DESC, customer LIMIT 20",
        "Month to date against the same part of last month, the largest difference first, up or down.",
        "somebody new or gone is sales' business; somebody who doubled may have a defect: open the customer.",
        width=12,
        height=12,
        right=["Before", "Now", "Change"],
        links={"Customer": TO_CUSTOMER},
    )


def _currencies() -> Panel:
    return table(
        "All currencies",
        f"SELECT currency AS Currency, {money('sum(amount)')} AS Amount, uniqExact(customer) AS Customers"
        f" FROM charges_current WHERE {HOURS} GROUP BY currency ORDER BY currency",
        "Charges in the range, a row for each currency. There is no sum of them: it would need an exchange rate.",
        "choose a currency at the top to see the rest of the page in it.",
        height=5,
        right=["Amount"],
    )
