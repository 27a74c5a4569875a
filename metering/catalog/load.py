"""YAML files to a catalog; every mistake of a file set is reported at once, with file and line."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from metering.catalog.checks import cross_check
from metering.catalog.models import (
    CatalogFile,
    ContractFile,
    CustomerFile,
    GrantFile,
    MeterFile,
    PlanFile,
    PoolFile,
    RateCardFile,
    UnitFile,
)
from metering.catalog.places import Mistake, Placed, descend, line_of
from metering.catalog.resolved import Catalog, resolve
from metering.errors import UserError

_KINDS: dict[str, type[BaseModel]] = {
    "meters": MeterFile,
    "units": UnitFile,
    "rate_cards": RateCardFile,
    "plans": PlanFile,
    "contracts": ContractFile,
    "pools": PoolFile,
    "customers": CustomerFile,
    "grants": GrantFile,
}


# The C parser reads a large book of customers ten times as fast; it has the same safe constructors.
_INTEGER = "tag:yaml.org,2002:int"
_PLAIN_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class CatalogError(UserError):
    """A catalog that cannot be used, with all its mistakes."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = sorted(mistakes)
        lines = "\n".join(f"  {mistake}" for mistake in self.mistakes)
        super().__init__(
            f"{len(mistakes)} mistake{'s' if len(mistakes) != 1 else ''} in the catalog\n{lines}",
            hint="correct them and run `metering catalog check` again; nothing was published",
        )


def load_folder(folder: Path) -> Catalog:
    """Read all `*.yaml` and `*.yml` files below a folder into one catalog, or raise `CatalogError`."""
    files = sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]) if folder.is_dir() else []
    if not files:
        raise UserError(f"{folder} holds no YAML files", hint="name the folder of your catalog")
    return load_texts({str(f.relative_to(folder)): f.read_text("utf-8") for f in files})


def load_texts(texts: dict[str, str]) -> Catalog:
    """A catalog from file names and their YAML texts, or `CatalogError`."""
    mistakes: list[Mistake] = []
    placed: dict[str, list[Placed]] = {kind: [] for kind in _KINDS}
    for file, text in texts.items():
        mistakes.extend(_read_file(file, text, placed))
    mistakes.extend(cross_check(placed))
    if mistakes:
        raise CatalogError(mistakes)
    values = {kind: tuple(p.value for p in found) for kind, found in placed.items()}
    return resolve(CatalogFile.model_construct(None, **values))


def _read_file(file: str, text: str, placed: dict[str, list[Placed]]) -> Iterator[Mistake]:
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        yield Mistake(file, mark.line + 1 if mark else 1, f"not YAML: {what}")
        return
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        yield Mistake(file, 1, f"expected one of {', '.join(_KINDS)} at the top of the file")
        return
    yield from _odd_nodes(file, root)
    for name, node in root.value:
        if not isinstance(name, yaml.ScalarNode):
            continue
        if name.value not in _KINDS or not isinstance(node, yaml.SequenceNode):
            yield Mistake(file, line_of(name), f"expected a list under one of {', '.join(_KINDS)}")
            continue
        for item in node.value:
            yield from _read_item(file, _KINDS[name.value], item, placed[name.value])


def _read_item(file: str, model: type[BaseModel], node: yaml.Node, found: list[Placed]) -> Iterator[Mistake]:
    loader = yaml.SafeLoader("")
    try:
        raw = loader.construct_document(node)
        found.append(Placed(model.model_validate(raw), node, file))
    except yaml.MarkedYAMLError as error:
        yield Mistake(file, line_of(node), str(error.problem))
    except (ValueError, TypeError) as error:
        if not isinstance(error, ValidationError):
            yield Mistake(file, line_of(node), f"a value cannot be read: {error}")
            return
        yield from _invalid(file, node, error)


def _invalid(file: str, node: yaml.Node, error: ValidationError) -> Iterator[Mistake]:
    for problem in error.errors():
        place = descend(node, problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        path = ".".join(str(step) for step in problem["loc"])
        yield Mistake(file, line_of(place), f"{path}: {message}" if path else message)


def _odd_nodes(file: str, node: yaml.Node) -> Iterator[Mistake]:
    """What YAML reads otherwise than a person does, and what is wrong for money.

    A key that stands twice (the last would win), a key that is no text, and numbers such as 010 (8) or
    1:30 (90).
    """
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                yield Mistake(file, line_of(key), "a key must be text")
                continue
            if key.value in seen:
                yield Mistake(file, line_of(key), f"`{key.value}` stands here a second time")
            seen.add(key.value)
            yield from _odd_nodes(file, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _odd_nodes(file, item)
    elif node.tag == _INTEGER and not _PLAIN_INTEGER.fullmatch(node.value):
        yield Mistake(file, line_of(node), f'YAML reads {node.value} as another number; write "{node.value}"')
