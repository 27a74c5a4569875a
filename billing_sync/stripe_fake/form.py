"""Form parameters as Stripe reads them, and the check against the SDK's own types."""

import re
import typing
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import Any, Literal, Union

from stripe._request_options import RequestOptions

from billing_sync.stripe_fake.errors import invalid

_INTEGER = re.compile(r"-?\d+")
_DECIMAL = re.compile(r"-?\d+(\.\d+)?")  # no exponent: the API takes plain decimals


def parse_form(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """`a[b][0][c]=v` to nested dicts; numbered keys become lists."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        first, *rest = re.findall(r"[^\[\]]+", name)
        place = root
        for step in (first, *rest)[:-1]:
            place = place.setdefault(step, {})
        place[(first, *rest)[-1]] = value
    return {key: _lists(value) for key, value in root.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(item) for key, item in value.items()}
    if inner and all(key.isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def check_params(params: dict[str, Any], kind: type) -> None:
    """Refuse what the SDK's parameter type does not know, lacks or types differently."""
    _check_fields("", params, kind)


@lru_cache(maxsize=64)
def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, localns={"StripeContext": str, "Mapping": Mapping})
    options = RequestOptions.__annotations__
    return {name: hint for name, hint in hints.items() if name not in options}


def _check_fields(place: str, value: Any, kind: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Invalid object: {value}", param=place, stored=False)
    fields = _fields(kind)
    for name, found in value.items():
        where = f"{place}[{name}]" if place else name
        if name not in fields:
            raise invalid(f"Received unknown parameter: {where}", "parameter_unknown", where, stored=False)
        if not _fits(where, found, fields[name]):
            raise invalid(f"Invalid value for {where}: {found}", "", where, stored=False)
    for name in kind.__required_keys__:
        if name in fields and name not in value:
            where = f"{place}[{name}]" if place else name
            raise invalid(f"Missing required param: {where}.", "parameter_missing", where, stored=False)


def _fits(place: str, value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        return _fits_one_of(place, value, arguments)
    if origin is Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_fits(place, one, arguments[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(place, one, arguments[1]) for one in value.values())
    if _is_typed_dict(hint):
        _check_fields(place, value, hint)
        return True
    return _fits_scalar(value, hint)


def _fits_one_of(place: str, value: Any, choices: tuple[Any, ...]) -> bool:
    """Typed dicts come last, so that their message names the field."""
    ordered = sorted(choices, key=_is_typed_dict)
    return any(_fits(place, value, choice) for choice in ordered if choice is not NoneType)


def _is_typed_dict(hint: Any) -> bool:
    """`typing.is_typeddict` knows only typing's own, the SDK uses the one of typing_extensions."""
    return hasattr(hint, "__required_keys__")


def _fits_scalar(value: Any, hint: Any) -> bool:
    if hint in (int, float, Decimal):
        pattern = _INTEGER if hint is int else _DECIMAL
        return not isinstance(value, dict | list) and bool(pattern.fullmatch(str(value)))
    if hint is bool:
        return value in ("true", "false", True, False)
    return isinstance(value, str) if hint is str else False
