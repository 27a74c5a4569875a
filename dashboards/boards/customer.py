"""Customer: usage, charges with their tiers, corrections and closes of one customer."""

from dashboards import variables
from dashboards.layout import GREEN, PAYMENTS, RED, YELLOW, Board, Panel, cell, link_to, series, stat, table
from dashboards.query import HOURS, METER, PAYMENT, money

ONE = "customer = ${customer:singlequote}"
# Billing periods that the time range touches.
PERIODS = "period >= formatDateTime($__fromTime, '%Y-%m') AND period <= formatDateTime($__toTime, '%Y-%m')"
TO_EXPLANATION = (
    "Why this amount",
    link_to(
        "metering-explanation",
        customer="${customer:percentencode}",
        period=cell("Period"),
        price=cell("Price"),
    ),
)


def board() -> Board:
    """What a support person opens when a customer calls."""
    return Board(
        uid="metering-customer",
        title="Customer",
        folder="Finance",
        about="One customer: usage, what it costs and why, corrections. `metering explain` says the same in words.",
        variables=[variables.search(), variables.customer(), variables.currency(), variables.meter()],
        rows=[
            _who(),
            [_usage()],
            [_charges()],
            [_tiers(), _effects()],
            [_periods(), _invoices()],
            [_quotas(), _corrections()],
            [_letters()],
        ],
    )  # fmt: skip


def _who() -> list[Panel]:
    mine = f"{ONE} AND currency = ${{currency:singlequote}}"
    return [
        stat(
            "Customer",
            f"SELECT if(name = '', 'not in the catalog', name) AS name FROM (SELECT any(name) AS name"
            f" FROM catalog_customers_current WHERE {ONE})",
            "The name in the catalog.",
            "not in the catalog: it was taken out, or the id is mistyped.",
        ),
        stat(
            "Plan",
            f"SELECT if(plan = '', '–', plan) AS plan FROM (SELECT any(plan) AS plan"
            f" FROM catalog_customers_current WHERE {ONE})",
            "The plan of the customer's last phase in the catalog.",
            "`metering catalog show` has the phases before.",
        ),
        stat(
            "Charged in the range ($currency)",
            f"SELECT {money('sum(amount)')} AS charged FROM charges_current WHERE {mine} AND {HOURS}",
            "All charges whose hour lies in the time range.",
            "the table *Charges* says what they are for.",
        ),
        stat(
            "Last closed period ($currency)",
            f"SELECT concat(period, ': ', {money('amount')}) AS closed FROM period_closes_current"
            f" WHERE {mine} ORDER BY period DESC LIMIT 1",
            "What the newest close of a billing period came to. It does not change any more.",
            "nothing here: no period of this customer has closed yet.",
        ),
    ]


def _usage() -> Panel:
    return series(
        "Usage by hour and meter",
        f"SELECT $__timeInterval(hour) AS time, meter, sum(quantity) AS quantity FROM hourly_current"
        f" WHERE {ONE} AND {HOURS} AND {METER} GROUP BY time, meter ORDER BY time, meter",
        "What the meters counted. Meters have different units: choose one to compare its days. Of an average, a"
        " maximum or a number of different things, only the hours mean something, not their sum.",
        "a gap: nothing was sent, or it was refused; look at *Refused events* below.",
        every="1h",
    )


def _charges() -> Panel:
    return table(
        "Charges: why this amount? ($currency)",
        f"SELECT period AS Period, price AS Price, line AS Line, toString(quantity) AS Quantity, hours AS Rows,"
        f" {money('amount')} AS Amount FROM charges_by_price"
        f" WHERE {ONE} AND currency = ${{currency:singlequote}} AND {PERIODS} ORDER BY period DESC, amount DESC, price",
        "The whole billing periods that the time range touches, a line for each price. Not an invoice: an invoice"
        " rounds each line to the smallest unit of the currency and carries the remainder on.",
        "click a price for its hours, tiers and rounding.",
        right=["Quantity", "Amount"],
        links={"Price": TO_EXPLANATION},
    )


def _tiers() -> Panel:
    return table(
        "Tiers ($currency)",
        f"SELECT period AS Period, price AS Price, card AS Card, if(label = '', toString(tier), label) AS Tier,"
        f' toString(units) AS Units, toString(unit_price) AS "Unit price", toString(flat_fees) AS Fees,'
        f" toString(amount) AS Amount FROM bill_lines WHERE {ONE} AND currency = ${{currency:singlequote}} AND {PERIODS}"
        " ORDER BY period DESC, price, first_hour, card_version, bill_lines.tier, label",
        "What each tier, cell or rule of each version of the rate card came to, exact: 18 decimals, not rounded.",
        "two rows of one tier: the rate card has changed inside the period.",
        width=16,
        height=11,
        right=["Units", "Unit price", "Fees", "Amount"],
    )


def _effects() -> Panel:
    return table(
        "Effects ($currency)",
        f"SELECT period AS Period, price AS Price, name AS Effect, toString(amount) AS Amount FROM bill_effects"
        f" WHERE {ONE} AND currency = ${{currency:singlequote}} AND {PERIODS} ORDER BY period DESC, price, name",
        "What maxima, discounts, caps, conversions and proration added to the tiers.",
        "tiers, effects and rounding of a price add up to its charge.",
        width=8,
        height=11,
        right=["Amount"],
    )


def _periods() -> Panel:
    return table(
        "Billing periods ($currency)",
        f"""SELECT m.period AS Period, {money("m.total")} AS Charged,
    if(c.period = '', 'open', if(c.revision > 0, 'restated', 'closed')) AS State,
    if(c.period = '', '', {money("c.amount")}) AS Closed, substring(c.digest, 1, 12) AS Digest
FROM (SELECT period, total FROM customer_months WHERE {ONE} AND currency = ${{currency:singlequote}} AND {PERIODS}) AS m
LEFT JOIN (SELECT period, amount, revision, digest FROM period_closes_current WHERE {ONE}) AS c ON c.period = m.period
ORDER BY Period DESC""",
        "An open period still moves; a closed one has a record with its sum and the digest of its charges.",
        "*Charged* and *Closed* differ: do not bill, `metering periods --customer …` says more.",
        width=12,
        right=["Charged", "Closed"],
        states={"State": {"open": YELLOW, "closed": GREEN, "restated": GREEN}},
    )


def _invoices() -> Panel:
    return table(
        "Invoices ($currency)",
        f"SELECT period AS Period, number AS Number, state AS State, {PAYMENT} AS Payment, {money('rated')} AS Rated,"
        f" {money('invoiced')} AS Invoiced, {money('carried_after')} AS Carried FROM billing_invoices_current WHERE {ONE}"
        f" AND currency = ${{currency:singlequote}} AND {PERIODS} ORDER BY period DESC, changed DESC",
        "What billing sync made of closed periods: rated + carried before = invoiced + carried on. *Payment* is what the"
        " payment provider said last: open, failed, paid, uncollectible or void.",
        "a state that stays, or a payment that failed: see *Billing sync*.",
        width=12,
        right=["Rated", "Invoiced", "Carried"],
        states={
            "State": {"finalized": GREEN, "carried": GREEN, "blocked": RED, "unknown": RED},
            "Payment": PAYMENTS,
        },
    )


def _quotas() -> Panel:
    return table(
        "Quotas",
        """SELECT limit_id AS Limit, meter AS Meter, window_start AS Window, argMax(event, version) AS State,
    toString(argMax(posted, version)) AS Used, toString(argMax(amount, version)) AS Amount, max(happened) AS Since
FROM quota_events_current WHERE scope = ${customer:singlequote} AND $__timeFilter(happened)
    AND event IN ('threshold', 'blocked', 'unblocked', 'limit_changed', 'overrun')
GROUP BY limit_id, meter, window_start ORDER BY Window DESC, Limit LIMIT 100""",
        "What the newest event of each limit said in the range; a limit without events has not passed a threshold.",
        "`metering quota show CUSTOMER` has the state of now.",
        width=12,
        right=["Used", "Amount"],
        states={"State": {"blocked": RED, "overrun": RED, "threshold": YELLOW, "unblocked": GREEN}},
    )


def _corrections() -> Panel:
    return table(
        "Corrections",
        f"SELECT corrected AS At, what AS What, event_id AS Event, event_time AS Used, actor AS By, reason AS Why"
        f" FROM corrections_current WHERE {ONE} AND $__timeFilter(corrected) ORDER BY corrected DESC LIMIT 200",
        "Events that somebody voided, amended or restored in the time range, with who and why.",
        "`metering events show ID` tells the whole story of one.",
        width=12,
    )


def _letters() -> Panel:
    return table(
        "Refused events",
        f"SELECT appended AS At, reason AS Reason, event_id AS Event, event_type AS Type, detail AS Detail,"
        f" state AS State FROM rejected_letters WHERE {ONE} AND $__timeFilter(appended)"
        " ORDER BY appended DESC LIMIT 200",
        "Dead letters that name this customer, by the time at which they arrived. They are not on the bill.",
        "mend the cause, then `metering rejected retry`; what is retried counts in its own hour.",
        states={"State": {"open": RED, "retried": GREEN, "approved": GREEN, "discarded": YELLOW}},
        widths={"Detail": 520},
    )
