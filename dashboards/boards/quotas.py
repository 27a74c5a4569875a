"""Quotas: who is close to a limit, who is blocked, what happened and who set what."""

from dashboards import variables
from dashboards.layout import GREEN, RED, YELLOW, Board, Panel, cell, link_to, series, stat, table
from dashboards.query import METER, percent

_SCOPE = "$__conditionalAll(scope IN (${customer:singlequote}), $customer)"
_RANGE = f"$__timeFilter(happened) AND {_SCOPE} AND {METER}"
# What the newest event of each limit and window said; grants and leases do not speak of usage.
_NEWEST = f"""(SELECT * FROM quota_events_current
    WHERE {_RANGE} AND event IN ('threshold', 'blocked', 'unblocked', 'limit_changed', 'overrun')
    ORDER BY version DESC LIMIT 1 BY scope, limit_id, window_start)"""
_TO_CUSTOMER = ("Open the customer", link_to("metering-customer", customer=cell("Customer")))
_EVENTS = {"blocked": RED, "overrun": RED, "threshold": YELLOW, "unblocked": GREEN}


def board() -> Board:
    """What product and support look at."""
    return Board(
        uid="metering-quotas",
        title="Quotas",
        folder="Operations",
        about="From the events of quotas: a threshold that was passed, a block, a grant. Applications read live answers from"
        " the lookup topic; `metering quota show CUSTOMER` reads the same.",
        variables=[variables.search(), variables.customers(), variables.meter()],
        rows=[_figures(), [_closest()], [_by_hour()], [_happened()], [_set()]],
        since="now-7d",
    )


def _figures() -> list[Panel]:
    return [
        stat(
            "Blocked",
            f"SELECT toString(countIf(event = 'blocked')) AS blocked FROM {_NEWEST}",
            "Limits whose newest event of the range is a block.",
            "the table below names them; `metering quota grant` helps at once.",
        ),
        stat(
            "Passed their limit",
            f"SELECT toString(countIf(posted > amount AND amount > 0)) AS over FROM {_NEWEST}",
            "Limits with more usage than their amount, as of their newest event: soft limits, and overruns of hard ones.",
            "overruns of hard limits are bounded; the page on quotas says how far they can go.",
        ),
        stat(
            "Thresholds fired",
            f"SELECT toString(count()) AS fired FROM quota_events_current WHERE {_RANGE} AND event = 'threshold'",
            "How often usage passed one of the percentages that a limit names.",
            "tell the customers before they are blocked.",
        ),
        stat(
            "Refused requests to quotas",
            f"SELECT toString(count()) AS refused FROM quota_events_current WHERE {_RANGE} AND event = 'refused'",
            "What could not be done, e.g. a grant for a limit that does not exist.",
            "*What happened* says why.",
        ),
    ]


def _closest() -> Panel:
    return table(
        "Closest to the limit",
        f"SELECT scope AS Customer, meter AS Meter, limit_id AS Limit, window_start AS Window, event AS State,"
        f" toString(posted) AS Used, toString(amount) AS Amount, {percent('posted', 'amount')} AS Share, happened AS Since"
        f" FROM {_NEWEST} ORDER BY amount > 0 DESC, posted / if(amount = 0, 1, amount) DESC, Customer, Limit LIMIT 200",
        "Limits by their share of use at their newest event, so a limit appears when it passes its first threshold."
        " *Customer* is the pool where customers share a limit; *Amount* includes grants.",
        "offer a larger plan, or grant more: `metering quota grant`.",
        right=["Used", "Amount", "Share"],
        states={"State": _EVENTS},
        links={"Customer": _TO_CUSTOMER},
        height=11,
    )


def _by_hour() -> Panel:
    return series(
        "Events of quotas",
        f"SELECT $__timeInterval(happened) AS time, event, count() AS events FROM quota_events_current WHERE {_RANGE}"
        " GROUP BY time, event ORDER BY time, event",
        "Thresholds, blocks, grants and what else happened, by the append time of the usage that caused it.",
        "many blocks at once: was a limit lowered? *What people set* says by whom.",
        every="1h",
    )


def _happened() -> Panel:
    return table(
        "What happened",
        f"SELECT happened AS At, scope AS Customer, event AS Event, limit_id AS Limit, meter AS Meter,"
        f" if(percent = 0, '', concat(toString(percent), ' %')) AS Threshold, toString(posted) AS Used,"
        f" toString(amount) AS Amount, actor AS By, reason AS Why FROM quota_events_current WHERE {_RANGE}"
        " ORDER BY happened DESC, version DESC LIMIT 500",
        "Each event once, however often it was replayed.",
        "`metering quota show CUSTOMER` has the state of now.",
        right=["Used", "Amount"],
        states={"Event": _EVENTS},
        links={"Customer": _TO_CUSTOMER},
        height=11,
    )


def _set() -> Panel:
    return table(
        "What people set",
        f"SELECT made AS At, kind AS What, scope AS Customer, limit_id AS Limit, ifNull(toString(amount), '') AS Amount,"
        f" starts AS From, ends AS Until, if(is_withdrawn, 'withdrawn', 'in force') AS State, actor AS By, reason AS Why"
        f" FROM quota_facts_current WHERE $__timeFilter(made) AND {_SCOPE} ORDER BY k_offset DESC LIMIT 200",
        "Grants and limits that were set at run time, beside what the catalog says. An empty amount is unlimited.",
        "a limit that nobody remembers: `metering quota limit` withdraws it.",
        right=["Amount"],
        height=8,
    )
