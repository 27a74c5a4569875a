"""Which changes of the rating code no test notices: one operator at a time, in a copy of the repository.

Run as `python -m tests.rating.mutate [FILE ...] [--every N]`. A comparison loses or gains its bound, a
sum becomes a difference, a quotient a remainder, `min` becomes `max`, a half a third. The tests of
rating that need no real parts run on each; a change that they all pass has survived.
"""

import argparse
import ast
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from rich.console import Console

ROOT = Path(__file__).parent.parent.parent
RATING = Path("metering") / "rating"
FILES = ["charge.py", "per_event.py", "windows.py", "lines.py", "flats.py", "parts.py"]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "data", "docs")
# Few examples, the same ones each time: a survivor must survive again.
PROFILE = """
from hypothesis import settings

settings.register_profile("mutate", max_examples=30, deadline=None, derandomize=True, database=None)
settings.load_profile("mutate")
"""
TESTS = ["tests/rating", "--ignore=tests/rating/test_vector.py", "-m", "not parts"]
SECONDS = 90
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.FloorDiv: ast.Mod,
    ast.Mod: ast.FloorDiv,
}
CALLS = {"min": "max", "max": "min"}


class Mutant(NamedTuple):
    """One changed place: the file as it was there and as it is now."""

    file: str
    line: int
    column: int
    what: str
    text: str


def mutants(copy: Path, file: str) -> Iterator[Mutant]:
    """Every change of a file, in the order of its lines."""
    source = (copy / RATING / file).read_text()
    count = sum(1 for _ in _places(ast.parse(source)))
    found = []
    for number in range(count):
        tree = ast.parse(source)  # a fresh one: a change stays in its tree
        node, place = list(_places(tree))[number]
        before = ast.unparse(node)
        _change(node, place)
        what = f"{before} → {ast.unparse(node)}"
        found.append(Mutant(file, node.lineno, node.col_offset, what, ast.unparse(tree)))
    yield from sorted(found, key=lambda mutant: (mutant.line, mutant.column))


def _places(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, int]]:
    """Nodes that can be changed; a comparison has a place for each operator."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from ((node, n) for n, op in enumerate(node.ops) if type(op) in COMPARISONS)
        elif isinstance(node, ast.BinOp | ast.AugAssign):
            if type(node.op) in OPERATORS:
                yield node, 0
            if isinstance(node, ast.BinOp) and _is_two(node):
                yield node, 1
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield node, 0


def _is_two(node: ast.BinOp) -> bool:
    """Whether a half is made or undone here: a factor or a divisor of 2."""
    sides = (node.left, node.right)
    return any(isinstance(side, ast.Constant) and side.value == 2 for side in sides)


def _change(node: ast.expr | ast.stmt, place: int) -> None:
    if isinstance(node, ast.Compare):
        node.ops[place] = COMPARISONS[type(node.ops[place])]()
    elif isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        node.func.id = CALLS[node.func.id]
    elif isinstance(node, ast.BinOp) and place:
        for side in (node.left, node.right):
            if isinstance(side, ast.Constant):
                side.value = 3
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        node.op = OPERATORS[type(node.op)]()


def copy_into(folder: Path) -> Path:
    """A copy of the repository whose tests use few examples."""
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    settings = copy / "tests" / "conftest.py"
    settings.write_text(settings.read_text() + PROFILE)
    return copy


def passes(copy: Path) -> bool:
    """Whether the tests of a copy pass; one that does not end has noticed something too."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", *TESTS]
    command += ["-p", "no:randomly", "-p", "no:cacheprovider"]
    try:
        return not subprocess.run(command, cwd=copy, capture_output=True, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        return False


def survives(copies: "Queue[Path]", mutant: Mutant) -> bool:
    """Whether no test notices a change."""
    copy = copies.get()
    file = copy / RATING / mutant.file
    kept = file.read_text()
    try:
        file.write_text(mutant.text)
        return passes(copy)
    finally:
        file.write_text(kept)
        copies.put(copy)


def main() -> None:
    """Try the changes of some files, and say of each whether it was noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=FILES, help="files of metering/rating")
    parser.add_argument("--every", type=int, default=1, help="try only each n-th change")
    parser.add_argument("--jobs", type=int, default=2, help="copies that run at once")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        copies: Queue[Path] = Queue()
        first = copy_into(Path(folder))
        for number in range(arguments.jobs):  # all from the first: the working tree may change meanwhile
            copies.put(Path(shutil.copytree(first, Path(folder) / str(number))))
        if not passes(first):
            sys.exit("the tests fail without a change; nothing can be said")
        found = [mutant for file in arguments.files for mutant in mutants(first, file)]
        wanted = found[:: arguments.every]
        survived = 0
        for mutant, alive in zip(wanted, pool.map(partial(survives, copies), wanted), strict=True):
            survived += alive
            verdict = "[red]survived[/]" if alive else "killed"
            place = f"{RATING / mutant.file}:{mutant.line}:{mutant.column}"
            console.print(f"{verdict} {place}", end=" ")
            console.print(mutant.what, markup=False)
        console.print(f"{len(wanted)} changes, {survived} survived")


if __name__ == "__main__":
    main()
