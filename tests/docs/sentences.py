"""Sentences that the code puts together, as a reader sees them: `<customer>` stands for what is put in."""

import ast
import re
from importlib import import_module
from typing import NamedTuple


class Sentence(NamedTuple):
    """What is said at a line of a function."""

    module: str
    function: ast.FunctionDef
    line: int

    def of(self, node: ast.expr) -> str:
        """The text of an expression; empty when it is made elsewhere."""
        return self._whole(self._meant(node))

    def _whole(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if not isinstance(node, ast.JoinedStr):
            return ""
        text = ""
        for part in node.values:
            text += str(part.value) if isinstance(part, ast.Constant) else self._put_in(part, text)
        return text

    def _put_in(self, part: ast.expr, before: str) -> str:
        """What stands for a value: the constant, the sentence of another line, or a name in brackets."""
        assert isinstance(part, ast.FormattedValue)
        value = self._meant(part.value)
        if isinstance(value, ast.Name) and value.id.isupper():
            found = getattr(import_module(self.module), value.id)
            return f"{found:,}" if isinstance(found, int) else str(found)
        named = self._whole(value) or f"<{_name(part.value)}>"
        is_code = before.count("`") % 2 == 1
        return named if is_code or not named.startswith("<") else f"`{named}`"

    def _meant(self, node: ast.expr) -> ast.expr:
        """What a name was last set to above the line."""
        set_before = [
            one
            for one in ast.walk(self.function)
            if isinstance(one, ast.Assign) and one.lineno < self.line and _is_set(one, node)
        ]
        found = max(set_before, key=lambda one: one.lineno).value if set_before else node
        return found if isinstance(found, ast.JoinedStr | ast.Constant) else node


def _is_set(one: ast.Assign, node: ast.expr) -> bool:
    (target, *_) = one.targets
    return isinstance(node, ast.Name) and isinstance(target, ast.Name) and target.id == node.id


def _name(node: ast.expr) -> str:
    """A word for a value: the field that it is read from, the list that it joins."""
    words = [one.attr if isinstance(one, ast.Attribute) else one.id for one in _names(node)]
    words = [word for word in words if word not in ("id", "len", "join", "self")]
    return re.sub("_+", " ", words[0]).strip() if words else "value"


def _names(node: ast.expr) -> list[ast.Attribute | ast.Name]:
    return [one for one in ast.walk(node) if isinstance(one, ast.Attribute | ast.Name)]
