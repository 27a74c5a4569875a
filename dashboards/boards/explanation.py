"""Explanation: one line of one bill, hour by hour, until every micro-unit is accounted for."""

from dashboards import variables
from dashboards.layout import Board, Panel, cell, link_to, stat, table
from dashboards.query import money

LINE = (
    "customer = ${customer:singlequote} AND period = ${period:singlequote} AND price = ${price:singlequote}"
)
# A slice in words: units × unit price + fee = amount.
_SLICE = """arrayStringConcat(arrayMap((tier, label, units, price, fee, amount) ->
        concat(if(label != '', label, concat('tier ', toString(tier))), ': ', toString(units), ' × ', toString(price),
            if(fee = 0, '', concat(' + fee ', toString(fee))), ' = ', toString(amount)),
        slice_tiers, slice_labels, slice_units, slice_unit_prices, slice_flat_fees, slice_amounts), '; ')"""
_EFFECTS = """arrayStringConcat(arrayMap((name, amount) -> concat(name, ' ', toString(amount)),
        effect_names, effect_amounts), '; ')"""


def board() -> Board:
    """The end of the way down from revenue."""
    return Board(
        uid="metering-explanation",
        title="Explanation",
        folder="Finance",
        about="Why a line of a bill is what it is. The time range does not matter here: a line belongs to a billing period.",
        variables=[variables.search(), variables.customer(), variables.period(), variables.price()],
        rows=[_totals(), [_hours()], [_back()]],
    )


def _totals() -> list[Panel]:
    rows = f"FROM charges_current WHERE {LINE}"
    return [
        stat(
            "Charge",
            f"SELECT concat({money('sum(amount)')}, ' ', any(currency)) AS charge {rows}",
            "The sum of the rows below: the line before an invoice rounds it.",
            "compare it with the customer's bill, `metering bill`.",
        ),
        stat(
            "Quantity",
            f"SELECT toString(sum(quantity)) AS quantity {rows}",
            "Units of the period. Tiers are counted from the first unit of the period on.",
            "compare it with the usage on the dashboard *Customer*.",
        ),
        stat(
            "Rounded away",
            f"SELECT toString(sum(rounding)) AS rounding {rows}",
            "What rounding to six decimals has added (or taken, with a minus) over all rows.",
            "nothing: it stays below one micro-unit for each scope of the price.",
        ),
        stat(
            "Rate card",
            f"SELECT arrayStringConcat(arraySort(groupUniqArray(concat(card, ' ', substring(card_version, 1, 8)))), ', ')"
            f" AS card {rows}",
            "Rate cards and versions that made these rows.",
            "two versions: the price changed inside the period, the table shows when.",
        ),
    ]


def _hours() -> Panel:
    return table(
        "Hour by hour",
        f"""SELECT hour AS Hour, events AS Events, toString(quantity) AS Quantity,
    concat(toString(quantity_before), ' → ', toString(quantity_after)) AS Position, {_SLICE} AS Slices,
    {_EFFECTS} AS Effects, toString(rounding) AS Rounding, {money("amount")} AS Amount,
    concat(card, ' ', substring(card_version, 1, 8)) AS Card
FROM charges_current WHERE {LINE} ORDER BY hour LIMIT 2500""",
        "Each row is F(after) − F(before) of the cumulated quantity: so the rows add up to the charge of the period"
        " exactly. A negative row is legal: under volume pricing a cheaper tier takes back part of what was charged.",
        "`metering explain CUSTOMER --period … --price … --hour …` takes one row apart, down to its events.",
        height=18,
        right=["Quantity", "Amount", "Rounding"],
        widths={"Slices": 520},
    )


def _back() -> Panel:
    return table(
        "The other lines of this bill",
        f"SELECT price AS Price, line AS Line, currency AS Currency, toString(quantity) AS Quantity,"
        f" {money('amount')} AS Amount FROM charges_by_price WHERE customer = ${{customer:singlequote}}"
        " AND period = ${period:singlequote} ORDER BY amount DESC, price",
        "All lines of the customer's billing period.",
        "click a price to explain it.",
        height=7,
        right=["Quantity", "Amount"],
        links={
            "Price": (
                "Explain this line",
                link_to(
                    "metering-explanation",
                    customer="${customer:percentencode}",
                    period="${period}",
                    price=cell("Price"),
                ),
            )
        },
    )
