"""A dashboard's JSON against the types of the SDK's models: unknown fields, wrong types, bad values."""

import enum
import inspect
import re
import types
import typing
from typing import Any

from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard, stat, table, text, timeseries

register_default_plugins()
_OPTIONS = {
    "stat": stat.Options,
    "table": table.Options,
    "timeseries": timeseries.Options,
    "text": text.Options,
}
_CUSTOM: dict[str, type] = {"table": table.FieldConfig, "timeseries": timeseries.FieldConfig}


def complaints(board: dict[str, Any]) -> list[str]:
    """What the SDK's models of Grafana do not know or allow; empty: valid."""
    found = list(_object(dashboard.Dashboard, board, "dashboard"))
    for panel in board["panels"]:
        place = f"panel {panel['title']}"
        found += _object(_OPTIONS[panel["type"]], panel.get("options", {}), f"{place}.options")
        custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom")
        if custom is not None:
            found += _object(_CUSTOM[panel["type"]], custom, f"{place}.custom")
    return found


def _object(model: type, value: Any, place: str) -> typing.Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: {value!r} is no {model.__name__}"
        return
    names = _names(model)
    hints = typing.get_type_hints(model)
    for key, held in value.items():
        if key not in names:
            yield f"{place}.{key}: not a field of {model.__name__}"
        elif (hint := hints.get(names[key])) is not None:
            yield from _value(hint, held, f"{place}.{key}")


def _names(model: type) -> dict[str, str]:
    """JSON names to attributes, as the model itself writes them."""
    source = inspect.getsource(model.to_json)  # type: ignore[attr-defined]  # every model of the SDK has it
    return dict(re.findall(r'"(\w+)"(?:\]\s*=|:)\s*self\.(\w+)', source))


def _value(hint: Any, held: Any, place: str) -> typing.Iterator[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        yield from _one_of(arguments, held, place)
    elif origin is typing.Literal:
        if held not in arguments:
            yield f"{place}: {held!r} is none of {arguments}"
    elif origin is list:
        yield from _all(arguments[0], held, place)
    elif origin is dict:
        if not isinstance(held, dict):
            yield f"{place}: {held!r} is no object"
    elif isinstance(hint, type) and hint is not object:
        yield from _plain(hint, held, place)


def _one_of(hints: tuple[Any, ...], held: Any, place: str) -> typing.Iterator[str]:
    if held is None and type(None) in hints:
        return
    answers = [list(_value(hint, held, place)) for hint in hints if hint is not type(None)]
    if all(answers):
        yield from min(answers, key=len)


def _all(hint: Any, held: Any, place: str) -> typing.Iterator[str]:
    if not isinstance(held, list):
        yield f"{place}: {held!r} is no list"
        return
    for number, one in enumerate(held):
        yield from _value(hint, one, f"{place}[{number}]")


def _plain(hint: type, held: Any, place: str) -> typing.Iterator[str]:
    if issubclass(hint, enum.Enum):
        if held not in [member.value for member in hint]:
            yield f"{place}: {held!r} is none of {[member.value for member in hint]}"
    elif hasattr(hint, "from_json"):
        yield from _object(hint, held, place)
    elif hint is float:
        if isinstance(held, bool) or not isinstance(held, int | float):
            yield f"{place}: {held!r} is no number"
    elif hint in (str, int, bool) and type(held) is not hint:
        yield f"{place}: {held!r} is no {hint.__name__}"
