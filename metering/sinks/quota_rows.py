"""What happened to quotas and what people set, as rows of ClickHouse."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from metering.quota.wire import Fact, GrantFact, QuotaEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2299, 12, 31, tzinfo=UTC)  # what a DateTime64 holds
_OPEN_MS = 10_413_705_600_000

QUOTA_COLUMNS = {
    "quota_events": (
        "id event account scope meter limit_id limit_version window_start happened percent posted amount"
        " subject quantity actor reason detail version"
    ),
    "quota_facts": (
        "k_offset made kind scope limit_id grant_id amount starts ends is_withdrawn actor reason"
    ),
}


class QuotaRow(NamedTuple):
    """A table and a row of it."""

    table: str
    row: tuple[Any, ...]


def event_row(e: QuotaEvent) -> QuotaRow:
    """The row of something that happened to a quota."""
    place = (e.id, e.event, e.account, e.scope, e.meter, e.limit, e.limit_version)
    numbers = (_time(e.window_start), _time(e.at), e.percent, _units(e.posted), _units(e.amount))
    said = (e.subject, _units(e.quantity), e.actor, e.reason, e.detail, int(e.version))
    return QuotaRow("quota_events", (*place, *numbers, *said))


def fact_row(offset: int, made: int, fact: Fact) -> QuotaRow:
    """The row of what a person set; `made` is the broker's append time (epoch ms)."""
    what: tuple[str, str, str, str, Decimal | None]
    if isinstance(fact, GrantFact):
        what = ("grant", fact.scope, fact.limit, fact.id, _units(fact.amount))
        when = (_time(fact.starts), _time(fact.ends) if fact.ends else _LATEST, fact.revoked)
    else:
        amount = _units(fact.amount) if fact.amount else None
        what = ("limit", fact.scope, fact.limit, "", amount)
        when = (_time(made), _LATEST, fact.cleared)
    return QuotaRow("quota_facts", (offset, _time(made), *what, *when, fact.actor, fact.reason))


def _units(micro: str) -> Decimal:
    return Decimal(int(micro or 0)).scaleb(-6)


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=min(ms, _OPEN_MS))
