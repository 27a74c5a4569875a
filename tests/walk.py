"""Every command of the command lines, found by walking them; and whether words are one of them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import typer

from billing_sync.cli import app as billing_sync_app
from metering.cli import app as metering_app

PROGRAMS: dict[str, Any] = {
    "metering": typer.main.get_command(metering_app),
    "billing-sync": typer.main.get_command(billing_sync_app),
}


class Found(NamedTuple):
    """A command with its words, e.g. `metering rejected list`."""

    words: str
    command: Any


def walk() -> Iterator[Found]:
    """Every command that does something; groups are only passed through."""
    for name, program in PROGRAMS.items():
        yield from _below(name, program)


def groups() -> Iterator[Found]:
    """Every group of commands, the programs included."""
    for name, program in PROGRAMS.items():
        yield from _groups(name, program)


def _below(words: str, command: Any) -> Iterator[Found]:
    if not hasattr(command, "commands"):
        yield Found(words, command)
        return
    for name, child in command.commands.items():
        yield from _below(f"{words} {name}", child)


def _groups(words: str, command: Any) -> Iterator[Found]:
    if hasattr(command, "commands"):
        yield Found(words, command)
        for name, child in command.commands.items():
            yield from _groups(f"{words} {name}", child)


def find_command(words: list[str]) -> Found:
    """The command that these words run; ValueError when they are none, or an option is not theirs."""
    program, *rest = words
    if program not in PROGRAMS:
        raise ValueError(f"{program} is no program of ours")
    command, path = PROGRAMS[program], program
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            raise ValueError(f"`{path}` has no command `{' '.join(rest[:1])}`")
        path, command, rest = f"{path} {rest[0]}", command.commands[rest[0]], rest[1:]
    try:
        command.make_context(path, list(rest))
    except typer.Exit:
        pass  # --help
    except Exception as error:  # typer keeps its own copy of click's errors
        raise ValueError(f"`{' '.join(words)}`: {getattr(error, 'message', error)}") from error
    return Found(path, command)
