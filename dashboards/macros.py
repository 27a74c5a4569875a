"""The SQL that reaches ClickHouse: variables and macros expanded in the order and the way of the plugin.

In the browser: `$__conditionalAll`, last occurrence first, then variables. In the backend: comments are
blanked, then the macros, nested ones innermost first. Macros that rewrite a whole statement
(`$__columns`, `$__lttb`, …) are refused here: our dashboards do not use them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

ALL = "$__all"
Value = str | Sequence[str]

_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?::(\w+))?\}|\[\[(\w+)(?::(\w+))?\]\]")
_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:\\.|''|[^'\\])*'|\"(?:\\.|\"\"|[^\"\\])*\"|`(?:\\.|``|[^`\\])*`|.", re.DOTALL
)
_MACRO = re.compile(r"\$__(\w+)(\()?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class MacroError(ValueError):
    """A query that the plugin, or ClickHouse behind it, would refuse."""


class Range(NamedTuple):
    """A time range and the interval of a drawn point, in epoch milliseconds."""

    start: int
    end: int
    interval: int = 60_000

    def _instant(self, ms: int) -> datetime:
        return datetime.fromtimestamp(ms / 1000, UTC)

    @property
    def seconds(self) -> int:
        """The interval in whole seconds, at least one."""
        return max(self.interval // 1000, 1)

    def date(self, ms: int) -> str:
        """A date for `$__dateFilter`."""
        return f"toDate('{self._instant(ms):%Y-%m-%d}')"


def expand(sql: str, span: Range, variables: Mapping[str, Value]) -> str:
    """The statement as ClickHouse receives it."""
    return _backend(_blank_comments(_variables(_conditional(sql, variables), variables)), span)


# -- in the browser -------------------------------------------------------------------------------


def _conditional(sql: str, variables: Mapping[str, Value]) -> str:
    name = "$__conditionalAll("
    while (at := sql.rfind(name)) >= 0:
        end, arguments = _arguments(sql, at + len(name))
        if len(arguments) < 2:
            raise MacroError(f"$__conditionalAll needs a condition and a variable: {sql[at:end]}")
        variable = arguments[-1].strip()
        if not re.fullmatch(r"\$\w+", variable):
            raise MacroError(f"{variable}: $__conditionalAll recognises All by a bare $variable only")
        value = variables.get(variable[1:], "")
        chosen = [value] if isinstance(value, str) else list(value)
        condition = ",".join(arguments[:-1]).strip()
        sql = sql[:at] + ("1=1" if chosen in ([""], [ALL], []) else condition) + sql[end:]
    return sql


def _variables(sql: str, variables: Mapping[str, Value]) -> str:
    def put(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[4]
        form = found[3] or found[5] or ""
        return _formatted(variables[name], form) if name in variables else found[0]

    return _VARIABLE.sub(put, sql)


def _formatted(value: Value, form: str) -> str:
    values = [value] if isinstance(value, str) else list(value)
    if form == "singlequote":
        return ",".join("'" + one.replace("'", "\\'") + "'" for one in values)
    if form == "raw":
        return ",".join(values)
    if form:
        raise MacroError(f"the format `{form}` is not one that our queries use")
    # The plugin's default: several values are quoted, and nothing is escaped.
    return value if isinstance(value, str) else ",".join(f"'{one}'" for one in values)


# -- in the backend -------------------------------------------------------------------------------


def _blank_comments(sql: str) -> str:
    def blank(found: re.Match[str]) -> str:
        text = found[0]
        return re.sub(r"[^\n]", " ", text) if text.startswith(("--", "/*")) else text

    return _TOKEN.sub(blank, sql)


def _backend(sql: str, span: Range) -> str:
    found = list(_MACRO.finditer(sql))
    for match in reversed(found):  # the last one holds no other: nested ones are expanded first
        name, end, arguments = match[1], match.end(), list[str]()
        if match[2]:
            end, arguments = _arguments(sql, match.end())
        if name not in _MACROS:
            raise MacroError(f"$__{name} is no macro that a query of ours may use")
        least, most, make = _MACROS[name]
        given = [one.strip() for one in arguments if one.strip() or len(arguments) > 1]
        if not least <= len(given) <= most:
            raise MacroError(f"$__{name}: expected {least} arguments, received {len(given)}")
        if not match[2]:
            end = match.start() + 3 + len(name)
        sql = sql[: match.start()] + make(span, given) + sql[end:]
    return sql


def _arguments(sql: str, start: int) -> tuple[int, list[str]]:
    """The offset behind the closing parenthesis, and what stands between the commas of the first level."""
    depth, arguments, current = 1, list[str](), ""
    for token in _TOKEN.finditer(sql, start):
        text = token[0]
        depth += {"(": 1, ")": -1}.get(text, 0)
        if depth == 0:
            return token.end(), [*arguments, current]
        if text == "," and depth == 1:
            arguments.append(current)
            current = ""
        else:
            current += text
    raise MacroError(f"a macro is not closed: {sql[start - 20 : start + 40]}")


def _time(ms: int) -> str:
    return f"toDateTime({ms // 1000})"


def _time_ms(ms: int) -> str:
    return f"fromUnixTimestamp64Milli({ms})"


def _between(column: str, start: str, end: str) -> str:
    return f"{column} >= {start} AND {column} <= {end}"


def _both(span: Range, given: Sequence[str]) -> str:
    dates = _between(given[0], span.date(span.start), span.date(span.end))
    return f"({dates}) AND ({_between(given[1], _time(span.start), _time(span.end))})"


def _group(_: Range, given: Sequence[str]) -> str:
    whole = re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ms|h|m|s))+", given[1])
    if whole is None:
        raise MacroError(f"{given[1]}: a duration of Go, such as 5m or 24h; it knows no days")
    seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION.findall(given[1]))
    return f"toStartOfInterval(toDateTime({given[0]}), INTERVAL {max(int(seconds), 1)} second)"


def _go_duration(span: Range, _: Sequence[str]) -> str:
    for size, unit in ((3_600_000, "h"), (60_000, "m"), (1_000, "s")):
        if span.interval % size == 0:
            return f"{span.interval // size}{unit}"
    return f"{span.interval}ms"


_Make = Callable[[Range, Sequence[str]], str]
_MACROS: dict[str, tuple[int, int, _Make]] = {
    "fromTime": (0, 0, lambda s, _: _time(s.start)),
    "toTime": (0, 0, lambda s, _: _time(s.end)),
    "fromTime_ms": (0, 0, lambda s, _: _time_ms(s.start)),
    "toTime_ms": (0, 0, lambda s, _: _time_ms(s.end)),
    "timeFilter": (1, 1, lambda s, a: _between(a[0], _time(s.start), _time(s.end))),
    "timeFilter_ms": (1, 1, lambda s, a: _between(a[0], _time_ms(s.start), _time_ms(s.end))),
    "dateFilter": (1, 1, lambda s, a: _between(a[0], s.date(s.start), s.date(s.end))),
    "dateTimeFilter": (2, 2, _both),
    "dt": (2, 2, _both),
    "timeFrom": (1, 1, lambda s, a: f"{a[0]} >= {_time(s.start)}"),
    "timeTo": (1, 1, lambda s, a: f"{a[0]} <= {_time(s.end)}"),
    "timeInterval": (
        1, 1, lambda s, a: f"toStartOfInterval(toDateTime({a[0]}), INTERVAL {s.seconds} second)",
    ),
    "timeInterval_ms": (
        1, 1,
        lambda s, a: f"toStartOfInterval(toDateTime64({a[0]}, 3), INTERVAL {max(s.interval, 1)} millisecond)",
    ),
    "timeGroup": (2, 2, _group),
    "interval_s": (0, 0, lambda s, _: str(s.seconds)),
    "interval_ms": (0, 0, lambda s, _: str(max(s.interval, 1))),
    "interval": (0, 0, _go_duration),
}  # fmt: skip
