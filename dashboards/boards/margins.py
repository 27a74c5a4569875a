"""Margins and rate cards: what a unit earns, tier by tier, and what the last change of a card did."""

from dashboards import variables
from dashboards.layout import Board, Panel, series, stat, table
from dashboards.query import CURRENCY, CUSTOMER, HOURS, METER, divided, money, quotient

_ROWS = f"FROM charges_current WHERE {HOURS} AND {CURRENCY} AND {METER} AND {CUSTOMER}"
_USAGE = f"{_ROWS} AND line = 'usage'"
# Nothing typed, or no number: no margin is shown, rather than one at a cost of zero.
_COST = "toDecimal256OrNull(${unit_cost:singlequote}, 12)"


def board() -> Board:
    """What pricing people look at."""
    return Board(
        uid="metering-margins",
        title="Margins and rate cards",
        folder="Finance",
        about="Revenue by tier, the price that a unit really fetched, and the effect of a new version of a rate card.",
        variables=[
            variables.currency(), variables.meter(), variables.search(), variables.customers(),
            variables.text("unit_cost", "Your cost of a unit", "What one unit of the chosen meter costs you, e.g. 0.0000004."),
        ],
        rows=[_margin(), [_effective()], [_by_tier()], [_versions(), _change()], [_below_cost()]],
        since="now-90d",
    )  # fmt: skip


def _margin() -> list[Panel]:
    margin = f"sum(amount) - {_COST} * sum(quantity)"
    return [
        stat(
            "Usage revenue ($currency)",
            f"SELECT {money('sum(amount)')} AS revenue {_USAGE}",
            "Charges for usage in the range: no flat fees, discounts or true-ups.",
            "choose one meter before you read the numbers on the right.",
        ),
        stat(
            "Effective unit price ($currency)",
            f"SELECT if(uniqExact(meter) = 1, {divided('sum(amount)', 'sum(quantity)', 12)},"
            f" 'choose one meter') AS price {_USAGE}",
            "Usage revenue by units, cut to 12 decimals: what a unit fetched, allowances and tiers included.",
            "it falls when large customers grow into cheap tiers: see *Revenue by tier*.",
        ),
        stat(
            "Margin at your unit cost ($currency)",
            f"SELECT multiIf(uniqExact(meter) != 1, 'choose one meter', isNull({_COST}), 'type your unit cost',"
            f" ifNull(toDecimalString({margin}, 6), '')) AS margin {_USAGE}",
            "Usage revenue less units × the cost that you typed at the top. The engine knows no costs of its own.",
            "negative: some tier is sold below cost; *Below cost* lists the customers.",
        ),
        stat(
            "Units",
            f"SELECT if(uniqExact(meter) = 1, toString(sum(quantity)), 'choose one meter') AS units {_USAGE}",
            "Units that were charged in the range; free ones inside an allowance are among them.",
            "compare with the usage of the customers concerned.",
        ),
    ]


def _effective() -> Panel:
    price = quotient("sum(amount)", "sum(quantity)", 12)
    return series(
        "Effective unit price by day ($currency)",
        f"SELECT toStartOfDay(hour) AS time, meter, {price} AS price {_USAGE} GROUP BY time, meter"
        " HAVING sum(quantity) != 0 ORDER BY time, meter",
        "Usage revenue of a day by its units. It steps where a rate card changes or the tiers begin anew with the month.",
        "a step that nobody planned: *Versions of rate cards* says what came into force.",
        bars=False,
    )


def _by_tier() -> Panel:
    return table(
        "Revenue by tier ($currency)",
        f"""SELECT price AS Price, card AS Card, if(slice.6 = '', toString(slice.1), slice.6) AS Tier,
    toString(slice.3) AS "Unit price", toString(sum(slice.2)) AS Units, toString(sum(slice.5)) AS Amount,
    uniqExact(customer) AS Customers
FROM (SELECT * {_ROWS})
ARRAY JOIN arrayZip(slice_tiers, slice_units, slice_unit_prices, slice_flat_fees, slice_amounts, slice_labels) AS slice
GROUP BY price, card, Tier, slice.3 ORDER BY price, card, Tier, slice.3 LIMIT 500""",
        "What each tier, cell or rule earned in the range, exact and before effects such as discounts.",
        "a tier without customers can go; one with nearly all revenue deserves a price of its own.",
        height=11,
        right=["Unit price", "Units", "Amount"],
    )


def _versions() -> Panel:
    return table(
        "Versions of rate cards ($currency)",
        f"SELECT card AS Card, substring(card_version, 1, 12) AS Version, min(hour) AS First, max(hour) AS Last,"
        f" uniqExact(customer) AS Customers, {money('sum(amount)')} AS Amount {_ROWS}"
        " GROUP BY card, card_version ORDER BY Card, First",
        "Which version of which card made the charges of the range, and from when to when it was used.",
        "ask about a version that ends early: was it replaced on purpose? Then nothing is to be done.",
        width=11,
        height=10,
        right=["Amount"],
    )


def _change() -> Panel:
    return table(
        "Effect of the last change of a card ($currency)",
        f"""SELECT card AS Card, price AS Price, begins AS Since,
    {divided("a_before", "q_before", 12)} AS "A unit before", {divided("a_after", "q_after", 12)} AS "A unit after",
    if(q_before = 0, '–', toDecimalString(toDecimal256(a_after, 6)
        - {quotient("a_before * toDecimal256(q_after, 6)", "q_before", 6)}, 6)) AS Effect
FROM (
    SELECT c.card AS card, c.price AS price, any(l.begins) AS begins,
        sumIf(c.amount, c.card_version = l.newest) AS a_after, sumIf(c.quantity, c.card_version = l.newest) AS q_after,
        sumIf(c.amount, c.card_version = l.older) AS a_before, sumIf(c.quantity, c.card_version = l.older) AS q_before
    FROM (SELECT * {_USAGE}) AS c
    INNER JOIN (
        SELECT card, versions[1].2 AS newest, versions[2].2 AS older, versions[1].1 AS begins
        FROM (
            SELECT card, arrayReverseSort(groupArray((begins, card_version))) AS versions
            FROM (SELECT card, card_version, min(hour) AS begins {_ROWS} GROUP BY card, card_version)
            GROUP BY card
        ) WHERE length(versions) > 1
    ) AS l ON l.card = c.card
    GROUP BY c.card, c.price
) ORDER BY Card, Price""",
        "The two newest versions of each card in the range: what a unit fetched before and after, and *Effect*: the"
        " revenue of the new version less what its units would have earned at the old effective price.",
        "an effect with the wrong sign: rate the period again under another card with `metering whatif`.",
        width=13,
        height=10,
        right=["A unit before", "A unit after", "Effect"],
    )


def _below_cost() -> Panel:
    return table(
        "Below cost ($currency)",
        f"""SELECT customer AS Customer, meter AS Meter, toString(sum(quantity)) AS Units, {money("sum(amount)")} AS Revenue,
    toDecimalString(sum(amount) - {_COST} * sum(quantity), 6) AS Margin
{_USAGE} GROUP BY customer, meter HAVING sum(amount) < {_COST} * sum(quantity)
ORDER BY sum(amount) - {_COST} * sum(quantity), customer LIMIT 100""",
        "Customers whose usage brought less than the unit cost that you typed, the largest loss first. Empty without one.",
        "talk to them before the contract is renewed, or move them to another tier.",
        height=8,
        right=["Units", "Revenue", "Margin"],
    )
