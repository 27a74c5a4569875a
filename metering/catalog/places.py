"""Where things stand in catalog files: nodes, lines, mistakes."""

from typing import Any, NamedTuple

import yaml


class Mistake(NamedTuple):
    """One mistake: where, and what is wrong or to be written instead."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class Placed(NamedTuple):
    """A checked object with the place it was read from."""

    value: Any
    node: yaml.Node
    file: str


def descend(node: yaml.Node, path: tuple[int | str, ...]) -> yaml.Node:
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


def line_of(node: yaml.Node) -> int:
    """The line of a node, from 1."""
    return int(node.start_mark.line) + 1
