"""Data quality: what was refused, late, sent twice or in conflict, from whom, and whether the books add up."""

from dashboards import variables
from dashboards.layout import GREEN, RED, YELLOW, Board, Panel, cell, link_to, series, stat, table
from dashboards.query import CUSTOMER, UNEXPLAINED

_ARRIVED = f"$__timeFilter(appended) AND {CUSTOMER}"
_WITH_SOURCE = f"""(SELECT l.*, e.source AS source FROM (SELECT * FROM rejected_letters WHERE {_ARRIVED}) AS l
    LEFT JOIN (SELECT k_topic, k_partition, k_offset, k_index, source FROM events_current WHERE {_ARRIVED}) AS e
        ON e.k_topic = l.k_topic AND e.k_partition = l.k_partition AND e.k_offset = l.k_offset AND e.k_index = l.k_index)"""


def board() -> Board:
    """What keeps bills from being right."""
    return Board(
        uid="metering-quality",
        title="Data quality",
        folder="Operations",
        about="By the time at which events arrived. Nothing is dropped: what is refused waits as a dead letter.",
        variables=[variables.search(), variables.customers()],
        rows=[
            _counters(),
            [_refused()],
            [_reasons(), _sources()],
            [_late()],
            [_copies(), _conflicts()],
            [_books()],
        ],
        since="now-7d",
    )


def _counters() -> list[Panel]:
    everything = "FROM progress_current WHERE fold = 'meter'"
    return [
        stat(
            "Events read so far",
            f"SELECT toString(sum(read)) AS events, if(sum(read) = sum(accepted) + sum(duplicates) + sum(rejected),"
            f" 'every one accounted for', 'DO NOT BILL: outcomes differ') AS outcomes {everything}",
            "All time, all customers: events read, and whether accepted + duplicates + refused is the same number."
            " Independent of the time range.",
            "they differ: stop billing, then `metering state verify`.",
            width=8,
        ),
        stat(
            "Refused, open",
            f"SELECT toString(countIf(state = 'open')) AS open FROM rejected_letters WHERE {_ARRIVED}",
            "Dead letters of the range that wait for a person.",
            "the table *By reason* says what to mend; then `metering rejected retry`.",
            width=4,
        ),
        stat(
            "Oldest open letter (UTC)",
            "SELECT if(count() = 0, 'none', formatDateTime(min(appended), '%Y-%m-%d %H:%i')) AS oldest FROM rejected_open"
            f" WHERE {_ARRIVED}",
            "When the oldest dead letter of the range arrived that nobody has dealt with.",
            "usage can come back for 35 days after its period closed; do not wait longer.",
            width=6,
        ),
        stat(
            "Duplicates so far",
            f"SELECT toString(sum(duplicates)) AS copies, concat(toDecimalString(divideDecimal("
            f"toDecimal256(sum(duplicates) * 100, 1), toDecimal256(greatest(sum(read), 1), 0), 1), 1), ' %') AS share"
            f" {everything}",
            "Copies that were not counted again, all time. Independent of the time range. Retries of senders are normal.",
            "a jump: some sender retries without a reason; see *Copies by source*.",
            width=6,
        ),
    ]


def _refused() -> Panel:
    return series(
        "Refused events by reason",
        f"SELECT $__timeInterval(appended) AS time, reason, count() AS letters FROM rejected_letters WHERE {_ARRIVED}"
        " GROUP BY time, reason ORDER BY time, reason",
        "Dead letters by the time at which they arrived, stacked by reason.",
        "a new reason after a deployment of yours: roll back the sender, then retry the letters.",
        every="1h",
    )


def _reasons() -> Panel:
    return table(
        "By reason",
        f"SELECT reason AS Reason, any(detail) AS Example, count() AS Letters, countIf(state = 'open') AS Open,"
        f" countIf(state = 'retried') AS Retried, uniqExactIf(customer, customer != '') AS Customers FROM rejected_letters WHERE {_ARRIVED}"
        " GROUP BY reason ORDER BY Open DESC, Letters DESC, reason",
        "Why events were refused, with the sentence of one of them. Codes are listed in the page on the wire format.",
        "`metering rejected list --reason CODE` shows them, `metering rejected retry --reason CODE` what a retry would do.",
        width=14,
        widths={"Example": 420},
    )


def _sources() -> Panel:
    return table(
        "Refused by source",
        f"SELECT if(source = '', '–', source) AS Source, customer AS Customer, reason AS Reason, count() AS Letters"
        f" FROM {_WITH_SOURCE} GROUP BY Source, customer, reason ORDER BY Letters DESC, Source, customer, reason LIMIT 200",
        "Which sender's events were refused. Bytes that cannot be read have no source and no customer.",
        "tell the owner of the source; the dead letter has the original bytes (`metering rejected show`).",
        width=10,
        links={"Customer": ("Open the customer", link_to("metering-customer", customer=cell("Customer")))},
    )


def _late() -> Panel:
    return series(
        "Late events by meter",
        f"SELECT $__timeInterval(hour) AS time, meter, sum(late) AS late FROM hourly_current"
        f" WHERE $__timeFilter(hour) AND {CUSTOMER} GROUP BY time, meter ORDER BY time, meter",
        "Events that came after the watermark had passed their hour, on the hour that they belong to. They count.",
        "many: a sender buffers too long. Usage of closed periods waits, or is adjusted, as its meter says.",
        every="1h",
    )


def _copies() -> Panel:
    return table(
        "Copies by source",
        f"SELECT if(source = '', '–', source) AS Source, count() AS Copies, uniqExact(customer, id) AS Events,"
        f" Copies - Events AS Repeated FROM events_current WHERE {_ARRIVED} GROUP BY source ORDER BY Repeated DESC, Source",
        "Readable copies that arrived in the range, and different events among them.",
        "a sender that repeats everything costs you bandwidth, not correctness.",
        width=12,
        height=8,
    )


def _conflicts() -> Panel:
    return table(
        "Conflicts",
        f"SELECT appended AS At, customer AS Customer, event_id AS Event, state AS State, detail AS Detail"
        f" FROM rejected_letters WHERE {_ARRIVED} AND reason = 'conflict' ORDER BY appended DESC LIMIT 200",
        "Events whose id had counted already with other content. The first one counts.",
        "ask the sender which one is right; `metering correct` amends the event that counts.",
        width=12,
        height=8,
        states={"State": {"open": RED, "retried": GREEN, "discarded": YELLOW}},
    )


def _books() -> Panel:
    return table(
        "Do the books add up?",
        f"""SELECT check AS Check, if(rows = 0, 'holds', 'broken') AS Result, rows AS Rows FROM (
    SELECT 1 AS place, 'accepted + duplicates + refused = read' AS check,
        countIf(read != accepted + duplicates + rejected) AS rows FROM progress_current WHERE fold = 'meter'
    UNION ALL
    SELECT 2, 'the parts of each charge add up to its amount', count() FROM {UNEXPLAINED}
    UNION ALL
    SELECT 3, 'each closed period has the charges of its close', countIf(NOT agrees) FROM close_check
    UNION ALL
    SELECT 4, 'ClickHouse has refused no row', count() FROM rejected_current WHERE reason = 'sink_refused'
) ORDER BY place""",
        "Checks that are cheap enough for a dashboard. The full audit, charges computed a second time in SQL from the"
        " archive, is `metering audit`; `metering watch` runs it again and again, see the dashboard *Pipeline*.",
        "broken: do not bill, and read the page on invariants.",
        height=7,
        states={"Result": {"holds": GREEN, "broken": RED}},
    )
