"""Pages as what is in their code blocks, and what the comments before a block say about it.

A block of `sh` or `python` runs as it is. These lines before it say how, and no reader sees them:

- `<!-- wait -->`: it is tried again until it says what it should;
- `<!-- background: TEXT -->`: it stays running, and is ready when it says TEXT;
- `<!-- line by line: TEXT -->`: each line says TEXT, and one that stays running is then stopped with Ctrl-C;
- `<!-- stopped: COMMAND -->`: meanwhile that command of the background does not run;
- `<!-- here EXAMPLE is: COMMAND -->`: what the command prints stands in the place of an example;
- `<!-- real broker -->`: it asks the broker for what the simulated one cannot do;
- `<!-- not run: REASON -->`.

A block with `<!-- output -->` before it is what the block before must print: each line somewhere, in this
order; `…` stands for anything.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n)*)^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FRAME = re.compile("[\u2500-\u257f]")  # of a table on a terminal
_COMMENT = re.compile(r"<!-- (.*) -->")
_KNOWN = re.compile(
    r"output|wait|real broker|(?:background|line by line|stopped|not run): \S.*|here \S+ is: \S.*"
)


class Block(NamedTuple):
    """A code block; `says` are the comments before it."""

    page: str
    line: int
    language: str
    says: tuple[str, ...]
    text: str
    expected: str = ""

    @property
    def place(self) -> str:
        """Where a reader finds it."""
        return f"{self.page}:{self.line}"

    @property
    def is_program(self) -> bool:
        """Whether it is something to run."""
        return self.language in ("sh", "python")

    @property
    def is_run(self) -> bool:
        """Whether it is followed."""
        return self.is_program and not self.said("not run")

    def said(self, name: str) -> str:
        """What stands behind `NAME:` in a comment; empty when none has it."""
        return next((one.partition(": ")[2] for one in self.says if one.startswith(f"{name}: ")), "")

    @property
    def unknown(self) -> list[str]:
        """Comments that mean nothing here: a slip of the pen would turn a check off."""
        return [one for one in self.says if not _KNOWN.fullmatch(one)]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, each with the output that follows it."""
    text, found = page.read_text(), list[Block]()
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        says = tuple(_COMMENT.findall(match[1]))
        block = Block(str(page.relative_to(ROOT)), line, match[2], says, match[3])
        if "output" in says:
            found[-1] = found[-1]._replace(expected=block.text)
        else:
            found.append(block)
    return found


def missing(expected: str, printed: str) -> str:
    """The first expected line that is not there behind the one before; empty when all are."""
    printed, at = " ".join(_FRAME.sub(" ", printed).split()), 0
    for line in expected.strip().splitlines():
        parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
        match = re.compile(r".*?".join(parts)).search(printed, at)
        if match is None:
            return line
        at = match.end()
    return ""
