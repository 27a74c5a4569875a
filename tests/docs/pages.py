"""Pages as what is in their code blocks, and what a comment before a block says about it.

A block of `sh` or `python` runs as it is. A comment before it can say `background` (it stays
running), `wait` (it is tried again until it says what it should), or `not run: REASON`. A block
`text` with `output` before it is what the block before must print: each line somewhere, in this
order; `…` stands for anything.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A code block; `says` is the comment before it."""

    page: str
    line: int
    language: str
    says: str
    text: str
    expected: str = ""

    @property
    def place(self) -> str:
        """Where a reader finds it."""
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, each with the output that follows it."""
    text, found = page.read_text(), list[Block]()
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        block = Block(str(page.relative_to(ROOT)), line, match[2], match[1] or "", match[3])
        if block.says == "output":
            found[-1] = found[-1]._replace(expected=block.text)
        else:
            found.append(block)
    return found


def missing(expected: str, printed: str) -> str:
    """The first expected line that is not there behind the one before; empty when all are."""
    printed, at = " ".join(printed.split()), 0
    for line in expected.strip().splitlines():
        parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
        match = re.compile(r".*?".join(parts)).search(printed, at)
        if match is None:
            return line
        at = match.end()
    return ""
