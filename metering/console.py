"""The terminal: one console, one way to end a command with an error."""

import sys
from collections.abc import Callable

from rich.console import Console

from metering.errors import UserError

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def run_command(app: Callable[[], object]) -> None:
    """Run a command-line app; a `UserError` becomes two readable lines and exit code 2."""
    try:
        app()
    except UserError as error:
        errors.print(f"[red]error:[/] {error}", soft_wrap=True)
        if error.hint:
            errors.print(f"  [dim]→[/] {error.hint}", soft_wrap=True)
        sys.exit(2)
