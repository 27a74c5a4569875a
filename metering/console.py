"""The terminal: one console, one way to end a command with an error."""

import sys
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from metering.errors import UserError

console = Console(highlight=False, emoji=False)  # `2:1234:0` is a place
errors = Console(stderr=True, highlight=False, emoji=False)


def literal(text: str) -> Text:
    """Text from outside as it is: no markup in it, and codes that could steer a terminal are shown."""
    return Text("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


def run_command(app: Callable[[], object]) -> None:
    """Run a command-line app; a `UserError` becomes two readable lines and exit code 2."""
    try:
        app()
    except UserError as error:
        errors.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        if error.hint:
            errors.print(f"  [dim]→[/] {escape(error.hint)}", soft_wrap=True)
        sys.exit(2)
