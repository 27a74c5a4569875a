"""How far each billing period of each customer has come: open → grace → closed → restated, and its books."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from metering.settings import Settings
from metering.sinks.queries import Books
from metering.state.calendar import closes_at, period, period_end
from metering.state.partitioning import partition_of

State = Literal["open", "grace", "closed", "restated"]


class PeriodState(NamedTuple):
    """A customer's billing period as it stands.

    `closed` is the watermark that closed it; of an open one, `closes` is the watermark that will. Hours
    before `over` have passed: late usage of them is within the grace. `revision` counts restatements.
    """

    customer: str
    period: str
    state: State
    over: datetime | None
    closes: datetime | None
    closed: datetime | None
    revision: int
    charges: int
    amount: Decimal
    currency: str
    digest: str


class Revision(NamedTuple):
    """One close of a period: the first, or a restatement with who approved it, and why."""

    number: int
    watermark: datetime
    rows: int
    amount: Decimal
    digest: str
    approvals: list[tuple[str, str, str, datetime]]  # event, actor, reason, time


def periods(client: Any, settings: Settings, customer: str = "") -> list[PeriodState]:
    """The periods that were charged or closed, by customer."""
    marks = Books(client).watermarks()
    where = "WHERE {customer:String} = '' OR customer = {customer:String}"
    charged = {
        (name, month): (int(rows), amount, currency)
        for name, month, rows, amount, currency in _rows(
            client,
            f"SELECT customer, period, count(), sum(amount), max(currency) FROM charges_current {where}"
            " GROUP BY customer, period",
            customer,
        )
    }
    closed = {
        (row[0], row[1]): row[2:]
        for row in _rows(
            client,
            "SELECT customer, period, watermark, revision, rows, amount, currency, digest"
            f" FROM period_closes_current {where}",
            customer,
        )
    }
    accounts = dict(
        _rows(
            client,
            f"SELECT customer, if(pool = '', customer, pool) FROM catalog_customers_current {where}",
            customer,
        )
    )
    found = []
    for name, month in sorted(charged.keys() | closed.keys()):
        if (name, month) in closed:
            watermark, revision, rows, amount, currency, digest = closed[name, month]
            state: State = "restated" if revision else "closed"
            books = (int(revision), int(rows), amount, currency, digest)
            found.append(PeriodState(name, month, state, None, None, watermark, *books))
        else:
            mark = marks.get(partition_of(accounts.get(name, name), settings.partitions), 0)
            found.append(unclosed(name, month, mark, settings.close_grace_hours, charged[name, month]))
    return found


def unclosed(
    name: str, month: str, mark: int, grace_hours: int, books: tuple[int, Decimal, str]
) -> PeriodState:
    """A period that no watermark has closed; `mark` (epoch ms) is how far its partition has come."""
    span = period(month)
    over = min(mark // 3_600_000 * 3_600, span.ends)
    state: State = "grace" if mark >= period_end(month) else "open"
    closes = _time(closes_at(span.starts * 1_000, grace_hours))
    rows, amount, currency = books
    return PeriodState(name, month, state, _time(over * 1_000), closes, None, 0, rows, amount, currency, "")


def revisions(client: Any, customer: str, month: str) -> list[Revision]:
    """Every close of a customer's period, the first one in front."""
    rows = client.query(
        "SELECT revision, watermark, rows, amount, digest, approval_events, approval_actors,"
        " approval_reasons, approval_times FROM period_closes_history WHERE customer = {customer:String}"
        " AND period = {period:String} ORDER BY revision",
        parameters={"customer": customer, "period": month},
    ).result_rows
    return [
        Revision(int(number), watermark, int(count), amount, digest, list(zip(*approvals, strict=True)))
        for number, watermark, count, amount, digest, *approvals in rows
    ]


def restated_words(found: Revision) -> list[str]:
    """Who let a period be restated, and why; one sentence for all events of an approval."""
    said: dict[tuple[str, str, datetime], list[str]] = {}
    for event, actor, reason, at in found.approvals:
        said.setdefault((actor, reason, at), []).append(event)
    return [
        f"revision {found.number}: {len(events):,} late event{'s' if len(events) > 1 else ''} ({events[0]}"
        f"{', …' if len(events) > 1 else ''}) approved {at:%Y-%m-%d %H:%M} UTC by {actor}: {reason}"
        for (actor, reason, at), events in said.items()
    ]


def _rows(client: Any, sql: str, customer: str) -> list[tuple[Any, ...]]:
    return list(client.query(sql, parameters={"customer": customer}).result_rows)


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)


def as_plain(found: PeriodState) -> Mapping[str, object]:
    """A period's state as JSON values."""
    return {
        name: value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else _text(value)
        for name, value in found._asdict().items()
    }


def _text(value: object) -> object:
    return f"{value:f}" if isinstance(value, Decimal) else value
