"""Which usage of a period was corrected: single events and backfills, with who, why and when."""

from collections.abc import Iterable
from typing import Any

_VERBS = {"void": "voided", "amend": "amended", "restore": "restored", "add": "added"}
_FOUND = (
    "SELECT what, backfill, step, actor, reason, count() AS events, min(corrected) AS since FROM"
    " (SELECT customer, what, event_time, backfill, step, actor, reason, corrected FROM corrections_current"
    " WHERE customer = {customer:String} UNION ALL"
    " SELECT b.customer, 'add', b.event_time, b.backfill, 'apply', s.actor, s.reason, s.made"
    " FROM backfilled_events AS b INNER JOIN backfill_steps AS s"
    " ON s.customer = b.customer AND s.backfill = b.backfill"
    " WHERE b.customer = {customer:String} AND s.step = 'apply')"
    " WHERE formatDateTime(event_time, '%Y-%m') IN {periods:Array(String)}"
    " AND ({hour:Int64} < 0 OR toUnixTimestamp(toStartOfHour(event_time)) = {hour:Int64})"
    " GROUP BY what, backfill, step, actor, reason ORDER BY since, what"
)


def corrected_usage(client: Any, customer: str, periods: Iterable[str], hour: int = -1) -> list[str]:
    """A line for each reason why usage of some periods, or of one hour (epoch s), is not as it was sent."""
    parameters = {"customer": customer, "periods": sorted(periods), "hour": hour}
    lines = []
    for what, backfill, step, actor, reason, events, since in client.query(
        _FOUND, parameters=parameters
    ).result_rows:
        number = f"{events:,} event{'' if events == 1 else 's'} {_VERBS[what]}"
        if backfill:
            number += f" by {'the revert of ' if step == 'revert' else ''}backfill {backfill}"
        lines.append(f"  {since:%Y-%m-%d %H:%M:%S} UTC: {number}, {actor}: {reason}")
    return lines
