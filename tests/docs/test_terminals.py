"""What the walk does with commands that stay running, on commands that are small."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import Block
from tests.docs.terminals import Terminals

STAYS = "trap 'echo over >> ends; exit 0' TERM; echo up >> begins; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    made = Terminals(tmp_path)
    yield made
    made.close()


def block(text: str, *says: str) -> Block:
    return Block("page.md", 1, "sh", says, text)


def in_one(text: str) -> Block:
    return block(f'bash -c "{text}"', "background: ready")


def test_a_command_that_is_stopped_meanwhile_runs_again_behind_it(
    terminals: Terminals, tmp_path: Path
) -> None:
    one = in_one(STAYS)
    terminals.start(one, os.environ)
    terminals.arrange(one.text, os.environ)
    assert (tmp_path / "ends").read_text() == "over\n"
    assert not terminals.runs(one.text)
    terminals.arrange("", os.environ)
    assert terminals.runs(one.text)
    assert (tmp_path / "begins").read_text() == "up\nup\n"


def test_a_line_that_stays_running_ends_with_ctrl_c(terminals: Terminals) -> None:
    page = block("python3 -c 'import time; print(1, flush=True); time.sleep(600)'", "line by line: 1")
    assert "KeyboardInterrupt" in terminals.line_by_line(page, os.environ)  # it has no exit code for that
    page = block("bash -c 'trap \"exit 130\" INT; echo 1; while :; do sleep 0.05; done'", "line by line: 1")
    assert terminals.line_by_line(page, os.environ) == ""


@pytest.mark.parametrize("line", ["echo other", "bash -c 'echo 1; exit 3'"])
def test_a_line_that_says_or_ends_otherwise_is_a_problem(terminals: Terminals, line: str) -> None:
    assert line in terminals.line_by_line(block(line, "line by line: 1"), os.environ)


def test_a_slip_in_a_comment_is_seen() -> None:
    assert block("true", "wiat", "wait", "not run:", "here X is: date").unknown == ["wiat", "not run:"]
