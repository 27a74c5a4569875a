"""What a new catalog changes, for whom: in the words of a price list."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from metering.catalog.models import CatalogFile
from metering.catalog.resolved import Catalog, canonical


class Change(NamedTuple):
    """One object that was added, removed or changed; `lines` say field by field how."""

    kind: str
    id: str
    what: str
    lines: tuple[str, ...]


def differences(old: Catalog, new: Catalog) -> list[Change]:
    """Every object that differs, in the order of the catalog's parts."""
    before, after = canonical(old.content), canonical(new.content)
    found: list[Change] = []
    for kind in CatalogFile.model_fields:
        left = {item["id"]: item for item in before.get(kind, [])}
        right = {item["id"]: item for item in after.get(kind, [])}
        for name in sorted(left.keys() | right.keys()):
            if name not in right:
                found.append(Change(kind, name, "removed", ()))
            elif name not in left:
                found.append(Change(kind, name, "added", ()))
            elif left[name] != right[name]:
                found.append(Change(kind, name, "changed", tuple(_fields("", left[name], right[name]))))
    return found


def affected(old: Catalog, new: Catalog) -> dict[str, list[str]]:
    """Customers whose terms differ, with the instants (UTC) from which their versions are other ones."""
    found = {}
    for customer in sorted({c.id for c in old.content.customers} | {c.id for c in new.content.customers}):
        before, after = _versions(old, customer), _versions(new, customer)
        if before != after:
            found[customer] = sorted({start for start, _ in before ^ after})
    return found


def _versions(catalog: Catalog, customer: str) -> set[tuple[str, str]]:
    """What a customer's terms are from which instant on, its start and end included."""
    terms = catalog.terms(customer)
    if terms is None:
        return set()
    found = {(_instant(s.starts), f"{s.origin.version} {s.change}") for s in terms.agreement.spans}
    found.add((_instant(terms.starts), "start"))
    return found if terms.ends is None else {*found, (_instant(terms.ends), "end")}


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _fields(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from _fields(f"{path}.{key}" if path else key, old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _items(path, old, new)
    elif old != new:
        yield f"{path}: {_say(old)} → {_say(new)}"


def _items(path: str, old: list[Any], new: list[Any]) -> Iterator[str]:
    """Lists of named things are compared by name, others by place."""
    left, right = _named(old), _named(new)
    for name in [*left, *(n for n in right if n not in left)]:
        yield from _fields(f"{path}[{name}]", left.get(name), right.get(name))


def _named(items: list[Any]) -> dict[str, Any]:
    found = {}
    for number, item in enumerate(items, 1):
        keys = (k for k in ("id", "from", "meter", "price") if isinstance(item, dict) and k in item)
        name = next((item[key] for key in keys), number)
        found[f"{name}" if str(name) not in found else f"{name} #{number}"] = item
    return found


def _say(value: Any) -> str:
    return "nothing" if value is None else str(value)
