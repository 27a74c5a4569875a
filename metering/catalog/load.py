"""YAML files to a catalog; every mistake of a file set is reported at once, with file and line."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from metering.catalog.models import (
    CatalogFile,
    CustomerFile,
    MeterFile,
    PlanFile,
    RateCardFile,
)
from metering.catalog.resolved import Catalog, resolve
from metering.errors import UserError

_KINDS: dict[str, type[BaseModel]] = {
    "meters": MeterFile,
    "rate_cards": RateCardFile,
    "plans": PlanFile,
    "customers": CustomerFile,
}


class Mistake(NamedTuple):
    """One mistake: where, and what is wrong or to be written instead."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class CatalogError(UserError):
    """A catalog that cannot be used, with all its mistakes."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = sorted(mistakes)
        lines = "\n".join(f"  {mistake}" for mistake in self.mistakes)
        super().__init__(
            f"{len(mistakes)} mistake{'s' if len(mistakes) != 1 else ''} in the catalog\n{lines}",
            hint="correct them and run `metering catalog check` again; nothing was published",
        )


class _Placed(NamedTuple):
    """A checked object with the place it was read from."""

    value: Any
    node: yaml.Node
    file: str


def load_folder(folder: Path) -> Catalog:
    """Read all `*.yaml` and `*.yml` files below a folder into one catalog, or raise `CatalogError`."""
    files = sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]) if folder.is_dir() else []
    if not files:
        raise UserError(f"{folder} holds no YAML files", hint="name the folder of your catalog")
    return load_texts({str(f.relative_to(folder)): f.read_text("utf-8") for f in files})


def load_texts(texts: dict[str, str]) -> Catalog:
    """A catalog from file names and their YAML texts, or `CatalogError`."""
    mistakes: list[Mistake] = []
    placed: dict[str, list[_Placed]] = {kind: [] for kind in _KINDS}
    for file, text in texts.items():
        mistakes.extend(_read_file(file, text, placed))
    mistakes.extend(_cross_check(placed))
    if mistakes:
        raise CatalogError(mistakes)
    values = {kind: tuple(p.value for p in found) for kind, found in placed.items()}
    return resolve(CatalogFile.model_construct(None, **values))


def _read_file(file: str, text: str, placed: dict[str, list[_Placed]]) -> Iterator[Mistake]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        yield Mistake(file, line, f"not YAML: {error.problem}")
        return
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        yield Mistake(file, 1, f"expected one of {', '.join(_KINDS)} at the top of the file")
        return
    yield from _repeated_keys(file, root)
    for name, node in root.value:
        if name.value not in _KINDS or not isinstance(node, yaml.SequenceNode):
            yield Mistake(file, _line(name), f"expected a list under one of {', '.join(_KINDS)}")
            continue
        for item in node.value:
            yield from _read_item(file, _KINDS[name.value], item, placed[name.value])


def _read_item(file: str, model: type[BaseModel], node: yaml.Node, found: list[_Placed]) -> Iterator[Mistake]:
    loader = yaml.SafeLoader("")
    try:
        raw = loader.construct_document(node)
        found.append(_Placed(model.model_validate(raw), node, file))
    except yaml.MarkedYAMLError as error:
        yield Mistake(file, _line(node), str(error.problem))
    except ValidationError as error:
        for problem in error.errors():
            place = _descend(node, problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            path = ".".join(str(step) for step in problem["loc"])
            yield Mistake(file, _line(place), f"{path}: {message}" if path else message)


def _repeated_keys(file: str, node: yaml.Node) -> Iterator[Mistake]:
    """YAML lets a key stand twice and keeps the last; for money that is a mistake."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield Mistake(file, _line(key), f"`{key.value}` stands here a second time")
            seen.add(key.value)
            yield from _repeated_keys(file, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(file, item)


def _descend(node: yaml.Node, path: tuple[int | str, ...]) -> yaml.Node:
    """The deepest node on a path: an unknown or missing field is reported at its parent or key."""
    for step in path:
        if isinstance(node, yaml.MappingNode):
            match = next(((k, v) for k, v in node.value if k.value == step), None)
            if match is None:
                return node
            key, value = match
            node = value if isinstance(value, yaml.CollectionNode) else key
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            if step >= len(node.value):
                return node
            node = node.value[step]
    return node


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _cross_check(placed: dict[str, list[_Placed]]) -> Iterator[Mistake]:
    for kind, found in placed.items():
        yield from _duplicates(kind, found)
    meters = {p.value.id: p.value for p in placed["meters"]}
    cards = {p.value.id: p.value for p in placed["rate_cards"]}
    plans = {p.value.id: p.value for p in placed["plans"]}
    for card in placed["rate_cards"]:
        yield from _check_card(card, meters)
    for plan in placed["plans"]:
        if plan.value.rate_card not in cards:
            yield _unknown(plan, "rate_card", plan.value.rate_card, cards)
    for customer in placed["customers"]:
        yield from _check_customer(customer, plans, cards)


def _duplicates(kind: str, found: list[_Placed]) -> Iterator[Mistake]:
    first: dict[str, _Placed] = {}
    for item in found:
        other = first.setdefault(item.value.id, item)
        if other is not item:
            place = f"{other.file}:{_line(other.node)}"
            message = f"{kind}: `{item.value.id}` is already defined at {place}"
            yield Mistake(item.file, _line(item.node), message)


def _check_card(card: _Placed, meters: dict[str, MeterFile]) -> Iterator[Mistake]:
    for number, version in enumerate(card.value.versions):
        node = _descend(card.node, ("versions", number))
        named: dict[str, int] = defaultdict(int)
        ids: dict[str, int] = defaultdict(int)
        for index, price in enumerate(version.prices):
            named[price.meter] += 1
            ids[price.id] += 1
            place = _descend(node, ("prices", index))
            yield from _check_price(card.file, place, price, meters)
        for meter in version.not_charged:
            named[meter] += 1
            if meter not in meters:
                yield Mistake(card.file, _line(node), f"not_charged: no meter `{meter}`")
        for price_id in [p for p, count in ids.items() if count > 1]:
            yield Mistake(card.file, _line(node), f"price `{price_id}` stands twice in this version")
        for meter in [m for m, count in named.items() if count > 1]:
            yield Mistake(card.file, _line(node), f"meter `{meter}` is priced twice in this version")
        for meter in [m for m in meters if m not in named]:
            yield Mistake(
                card.file,
                _line(node),
                f"meter `{meter}` has no price here; add one, or list it under not_charged",
            )


def _check_price(file: str, node: yaml.Node, price: Any, meters: dict[str, MeterFile]) -> Iterator[Mistake]:
    meter = meters.get(price.meter)
    if meter is None:
        yield Mistake(file, _line(node), f"price `{price.id}`: no meter `{price.meter}`")
        return
    for tier in price.tiers:
        if tier.up_to is not None and len(tier.up_to.partition(".")[2].rstrip("0")) > meter.scale:
            yield Mistake(
                file,
                _line(node),
                f"price `{price.id}`: up_to {tier.up_to} has more decimals than the"
                f" {meter.scale} of meter `{meter.id}`",
            )


def _check_customer(
    customer: _Placed, plans: dict[str, PlanFile], cards: dict[str, RateCardFile]
) -> Iterator[Mistake]:
    plan = plans.get(customer.value.plan)
    if plan is None:
        yield _unknown(customer, "plan", customer.value.plan, plans)
        return
    card = cards.get(plan.rate_card)
    if card is None:
        return  # reported at the plan
    place = _line(_descend(customer.node, ("currency",)))
    if card.currency != customer.value.currency:
        yield Mistake(
            customer.file,
            place,
            f"customer `{customer.value.id}` pays in {customer.value.currency}, its rate card"
            f" `{card.id}` is in {card.currency}",
        )
    if card.versions[0].starts > customer.value.start:
        yield Mistake(
            customer.file,
            _line(_descend(customer.node, ("start",))),
            f"customer `{customer.value.id}` starts before the first version of `{card.id}`",
        )


def _unknown(item: _Placed, field: str, name: str, known: dict[str, Any]) -> Mistake:
    line = _line(_descend(item.node, (field,)))
    choices = ", ".join(sorted(known)) or "none is defined"
    return Mistake(item.file, line, f"{field}: no `{name}`; there is: {choices}")
