"""JSON schemas of our records and models, with their docstrings as descriptions."""

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec


def components(types: Iterable[Any], template: str) -> tuple[list[Any], dict[str, Any]]:
    """The schema of each type, and those that they refer to, by name; `template` is a reference's form."""
    roots, named = msgspec.json.schema_components(types, ref_template=template)
    for schema in named.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return list(roots), dict(sorted(named.items()))
