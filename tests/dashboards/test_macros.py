"""Macros expand as the plugin's rules say: each case is a query, and what reaches ClickHouse."""

import pytest

from dashboards.macros import ALL, MacroError, Range, expand

SPAN = Range(1_700_000_000_500, 1_700_003_600_999, 90_000)
FROM, TO = "toDateTime(1700000000)", "toDateTime(1700003600)"
FROM_MS, TO_MS = "fromUnixTimestamp64Milli(1700000000500)", "fromUnixTimestamp64Milli(1700003600999)"

CASES = {
    "$__fromTime": FROM,
    "$__toTime_ms": TO_MS,
    "$__timeFilter(hour)": f"hour >= {FROM} AND hour <= {TO}",
    "$__timeFilter( hour )": f"hour >= {FROM} AND hour <= {TO}",
    "$__timeFilter_ms(at)": f"at >= {FROM_MS} AND at <= {TO_MS}",
    "$__timeFilter(toDateTime(month, 'UTC'))": f"toDateTime(month, 'UTC') >= {FROM} AND toDateTime(month, 'UTC') <= {TO}",
    "$__dateFilter(d)": "d >= toDate('2023-11-14') AND d <= toDate('2023-11-14')",
    "$__dt(d, t)": "(d >= toDate('2023-11-14') AND d <= toDate('2023-11-14')) AND "
    f"(t >= {FROM} AND t <= {TO})",
    "$__timeFrom(t) OR $__timeTo(t)": f"t >= {FROM} OR t <= {TO}",
    "$__timeInterval(t)": "toStartOfInterval(toDateTime(t), INTERVAL 90 second)",
    "$__timeInterval_ms(t)": "toStartOfInterval(toDateTime64(t, 3), INTERVAL 90000 millisecond)",
    "$__timeInterval($__fromTime)": f"toStartOfInterval(toDateTime({FROM}), INTERVAL 90 second)",
    "$__timeGroup(t, 1h30m)": "toStartOfInterval(toDateTime(t), INTERVAL 5400 second)",
    "$__interval_s $__interval_ms $__interval": "90 90000 90s",
    "'in a literal: $__fromTime'": f"'in a literal: {FROM}'",
    "1 -- not $__nonsense": "1 " + " " * 18,
    "'--' /* $__fromTime */ $__toTime": f"'--' {' ' * 17} {TO}",
    "'it\\'s' = $__fromTime": f"'it\\'s' = {FROM}",
    "toStartOfMonth($__toTime)": f"toStartOfMonth({TO})",
}


@pytest.mark.parametrize("sql", CASES)
def test_a_macro(sql: str) -> None:
    assert expand(sql, SPAN, {}) == CASES[sql]


REFUSED = ["$__timeGroup(t, 1d)", "$__timeFilter()", "$__timeFilter(a, b)", "$__unixEpochFilter(t)", "$__columns(a, b)",
           "$__timeFilter(hour", "$__conditionalAll(a IN (${a:singlequote}), ${a:singlequote})", "${a:lucene}"]  # fmt: skip


@pytest.mark.parametrize("sql", REFUSED)
def test_what_the_plugin_or_clickhouse_would_refuse_is_refused(sql: str) -> None:
    with pytest.raises(MacroError):
        expand(sql, SPAN, {"a": "x"})


VALUES = {"one": "o'neill", "several": ["a", "b'c"], "every": [ALL], "none": ""}
VARIABLES = {
    "${one:singlequote}": "'o\\'neill'",
    "${several:singlequote}": "'a','b\\'c'",
    "$one": "o'neill",
    "${several}": "'a','b'c'",  # why our queries never use the default
    "[[one:raw]]": "o'neill",
    "$unknown ${__data.fields.x}": "$unknown ${__data.fields.x}",
    "$__conditionalAll(c IN (${several:singlequote}), $several)": "c IN ('a','b\\'c')",
    "$__conditionalAll(c IN (${every:singlequote}), $every)": "1=1",
    "$__conditionalAll(c = ${none:singlequote}, $none)": "1=1",
    "$__conditionalAll(f(a, ',)') = 1, $one)": "f(a, ',)') = 1",
    "$__conditionalAll(a = 1, $one) AND $__conditionalAll(b = 2, $every)": "a = 1 AND 1=1",
    "$__conditionalAll(a = 1 AND $__conditionalAll(b = 2, $every), $one)": "a = 1 AND 1=1",
}


@pytest.mark.parametrize("sql", VARIABLES)
def test_a_variable(sql: str) -> None:
    assert expand(sql, SPAN, VALUES) == VARIABLES[sql]
