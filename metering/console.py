"""The terminal: one console, one kind of table, progress, and one way to end a command."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from metering.ending import EXIT_CRASH
from metering.errors import UserError

EXIT_ERROR = 2

console = Console(highlight=False, emoji=False)  # `2:1234:0` is a place
errors = Console(stderr=True, highlight=False, emoji=False)


_FOLDED = 24  # a word longer than this may be folded


class Table(RichTable):
    """A table that leaves nothing out: where its columns do not fit, each row becomes a list."""

    def __init__(self, *headers: Column | str, **options: Any) -> None:
        super().__init__(**options)
        for header in headers:
            if isinstance(header, Column):
                self.add_column(header.header, justify=header.justify, no_wrap=header.no_wrap)
            else:
                self.add_column(header)

    def add_column(self, *arguments: Any, **options: Any) -> None:
        """As rich's; what is too long is folded and never cut off."""
        super().add_column(*arguments, **{"overflow": "fold", **options})

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.show_header and self._narrowest(console, options) > options.max_width:
            yield from self._lists()
        else:
            yield from super().__rich_console__(console, options)

    def _narrowest(self, console: Console, options: ConsoleOptions) -> int:
        """The least width in which no amount, time or id is broken."""
        total = 1
        for column in self.columns:
            found = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells)]
            widths = [one.maximum if column.no_wrap else min(one.minimum, _FOLDED) for one in found]
            total += max(widths) + 3  # a border, and a space on both sides
        return total

    def _lists(self) -> Iterator[RichTable]:
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            row = RichTable.grid(padding=(0, 2, 0, 0))
            row.add_column(style="dim")
            row.add_column(overflow="fold")
            for column, cell in zip(self.columns, cells, strict=True):
                row.add_row(column.header, cell)
            row.add_row()
            yield row


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Say what is being done, and for how long already, while it is done; only on a terminal.

    Yields a function that says what comes next.
    """
    shown = console if console.is_terminal else errors
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda text: progress.update(task, description=text)


def literal(text: str) -> Text:
    """Text from outside as it is: no markup in it, and codes that could steer a terminal are shown."""
    return Text("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


def run_command(app: Callable[[], object]) -> None:
    """Run a command-line app; what went wrong becomes two readable lines and an exit code (docs/cli.md)."""
    try:
        app()
    except UserError as error:
        _tell(str(error), error.hint)
        sys.exit(EXIT_ERROR)
    except KafkaError as error:
        _tell(f"Kafka: {error}", "is the broker running, and is KAFKA_BROKERS right? `metering local status`")
        sys.exit(EXIT_ERROR)
    except ClickHouseError as error:
        _tell(f"ClickHouse: {str(error).splitlines()[0]}", "`metering migrate`, or see its log")
        sys.exit(EXIT_ERROR)
    except OSError as error:  # timeouts are among them
        _tell(str(error) or "no answer in time", "is everything reachable? `metering local status`")
        sys.exit(EXIT_ERROR)
    except Exception:
        traceback.print_exc()
        _tell("this is a defect of ours", "keep the lines above; running the command again does no harm")
        sys.exit(EXIT_CRASH)


def _tell(message: str, hint: str) -> None:
    errors.print(f"[red]error:[/] {escape(message)}", soft_wrap=True)
    if hint:
        errors.print(f"  [dim]→[/] {escape(hint)}", soft_wrap=True)
