"""The commands of recovery: `metering state`, `metering rebuild`, `metering books`."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Column

from metering.console import Table, console, working
from metering.recovery.books_digest import BooksDigest, books_digest, closed_periods
from metering.settings import settings
from metering.sinks.client import LONG_ANSWER_SECONDS, connect

if TYPE_CHECKING:
    from metering.recovery.canonical import Canonical
    from metering.recovery.clickhouse import Restored
    from metering.recovery.verify import Checked

state_app = typer.Typer(no_args_is_help=True, help="The workers' states: verify and rebuild.")
rebuild_app = typer.Typer(no_args_is_help=True, help="Rebuild what was lost from Kafka.")
books_app = typer.Typer(no_args_is_help=True, help="The books in ClickHouse.")

Partition = Annotated[int | None, typer.Option(help="Only this partition.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON; numbers are strings.")]
_DIGITS = 12  # of a digest, on the screen
_COLOURS = {"agree": "green", "differ": "red", "one copy": "yellow", "no state": "dim"}


@state_app.callback()
def _state() -> None:
    """The workers' states: verify and rebuild."""


@rebuild_app.callback()
def _rebuild() -> None:
    """Rebuild what was lost from Kafka."""


@books_app.callback()
def _books() -> None:
    """The books in ClickHouse."""


@state_app.command("verify")
def state_verify(partition: Partition = None, as_json: Json = False) -> None:
    """Compare each state's copies: local folder, journal, log folded again; exit code 1 when some differ."""
    from metering.recovery.verify import verify  # Faust takes a second to import

    with working("folding the logs again"):
        found = asyncio.run(verify(settings(), partition))
    if as_json:
        console.print_json(json.dumps([_verified_plain(one) for one in found]))
    else:
        _show_verified(found)
    raise typer.Exit(1 if any(one.verdict == "differ" for one in found) else 0)


def _verified_plain(one: "Checked") -> dict[str, Any]:
    copies = {"local": one.local, "journal": one.journal}
    return {
        "fold": one.part.fold,
        "partition": one.part.partition,
        "verdict": one.verdict,
        **{n: copy and {"offset": str(copy.offset), "digest": copy.digest} for n, copy in copies.items()},
        "log": [{"offset": str(offset), "digest": c.digest} for (offset, _), c in sorted(one.log.items())],
        "no_log": one.no_log,
        "differences": one.differences,
    }


def _show_verified(found: "list[Checked]") -> None:
    table = Table("Fold", "Partition", "Local folder", "Journal", "Log folded again", "")
    for one in found:
        log = "\n".join(_copy(copy) for _, copy in sorted(one.log.items())) or "[dim]not available[/]"
        verdict = f"[{_COLOURS[one.verdict]}]{one.verdict}[/]"
        cells = (one.part.fold, str(one.part.partition), _copy(one.local), _copy(one.journal))
        table.add_row(*cells, log, verdict)
    console.print(table)
    for one in found:
        if one.no_log and one.verdict != "no state":
            console.print(f"[yellow]{one.part}:[/] {escape(one.no_log)}", soft_wrap=True)
        for difference in one.differences:
            console.print(f"[red]{one.part}:[/] {escape(difference)}", soft_wrap=True)
    if all(one.local is None for one in found):
        chosen = settings()
        console.print(
            f"[dim]no state in {chosen.home / 'state' / chosen.instance};"
            " METERING_INSTANCE names the worker whose folder is meant[/]"
        )


def _copy(copy: "Canonical | None") -> str:
    return "[dim]none[/]" if copy is None else f"{copy.offset:,} {copy.digest[:_DIGITS]}"


@state_app.command("rebuild")
def state_rebuild(
    source: Annotated[Literal["journal", "log"], typer.Option("--from", help="What to rebuild it from.")],
    partition: Partition = None,
    as_json: Json = False,
) -> None:
    """Replace the local states; from the log, the journal too. No worker may run."""
    from metering.recovery.rebuild import rebuild  # Faust takes a second to import

    with working(f"rebuilding the states from the {source}"):
        found = asyncio.run(rebuild(settings(), source, partition))
    if as_json:
        plain = [{"fold": o.part.fold, "partition": o.part.partition, "offset": o.offset} for o in found]
        rows = [{**p, "digest": o.digest, "note": o.note} for p, o in zip(plain, found, strict=True)]
        console.print_json(json.dumps(rows))
        return
    table = Table("Fold", "Partition", Column("Position", justify="right"), "Digest", "")
    for one in found:
        offset = "" if one.offset is None else f"{one.offset:,}"
        table.add_row(one.part.fold, str(one.part.partition), offset, one.digest[:_DIGITS], one.note)
    console.print(table)


@rebuild_app.command("clickhouse")
def rebuild_clickhouse(
    into: Annotated[str, typer.Option(help="A new database; default: METERING_DATABASE.")] = "",
    drop: Annotated[bool, typer.Option("--yes", help="Drop the database of that name first.")] = False,
) -> None:
    """Read all topics into a new database; exit code 1 when a closed period is not as it was closed."""
    from metering.recovery.clickhouse import rebuild_clickhouse as work  # Faust takes a second to import

    def tell(line: str) -> None:
        console.print(f"[green]✓[/] {line}", soft_wrap=True)

    chosen = settings()
    with working("reading all topics again"):
        found = asyncio.run(work(chosen, into or chosen.database, drop=drop, tell=tell))
    _show_restored(found, chosen.database)
    raise typer.Exit(1 if found.problems else 0)


def _show_restored(found: "Restored", old_name: str) -> None:
    if found.new.closes:
        figures = (Column(name, justify="right") for name in ("Customers", "Charges", "Amount"))
        table = Table("Period", *figures, "", "Digest", title="Closed periods")
        for (period, currency), f in closed_periods(found.new.closes).items():
            cells = (f"{f.customers:,}", f"{f.rows:,}", f"{f.amount:,.6f}", currency)
            table.add_row(period, *cells, f.digest[:_DIGITS])
        console.print(table)
    _show_digest(found.new.digest, found.old.digest if found.old is not None else None)
    for line in found.lost:
        console.print(f"[yellow]not there any more:[/] {escape(line)}", soft_wrap=True)
    for line in found.problems:
        console.print(f"[red]{escape(line)}[/]", soft_wrap=True)
    if not found.problems:
        console.print(f"[green]✓[/] {_agreement(found)}", soft_wrap=True)
    if found.database != old_name:
        console.print(f"to use it: METERING_DATABASE={found.database}; its sink goes on from here")


def _agreement(found: "Restored") -> str:
    agreed = "every closed period is as it was closed"
    if found.old is None:
        return agreed
    if found.old.digest == found.new.digest:
        return f"{agreed}, and the old database has the same digest"
    return (
        f"{agreed}, also in the old database; its sink stood elsewhere, so open periods may differ:"
        " stop worker and sink to compare them"
    )


def _show_digest(found: BooksDigest, old: BooksDigest | None = None) -> None:
    right = (Column(name, justify="right") for name in ("Rows", "Sum"))
    table = Table("What", *right, "Digest", *(["Old database"] if old is not None else []))
    for number, part in enumerate(found.parts):
        before = [_compared(part.digest, old.parts[number].digest)] if old is not None else []
        table.add_row(part.name, f"{part.rows:,}", f"{part.total:,.6f}", part.digest[:_DIGITS], *before)
    console.print(table)
    console.print(f"digest of the books: {found.digest}", soft_wrap=True)


def _compared(digest: str, before: str) -> str:
    return "[green]the same[/]" if digest == before else f"[yellow]{before[:_DIGITS]}[/]"


@books_app.command("digest")
def books_digest_command(
    period: Annotated[str, typer.Option(help="Billing period, e.g. 2026-11; default: all.")] = "",
    as_json: Json = False,
) -> None:
    """Print the digest of charges, hourly totals and closes: equal books have equal digests."""
    url, database = settings().clickhouse(), settings().database
    with connect(url, database, answer_seconds=LONG_ANSWER_SECONDS) as client, working("reading the books"):
        found = books_digest(client, period)
    if as_json:
        parts = [{k: str(v) for k, v in part._asdict().items()} for part in found.parts]
        console.print_json(json.dumps({"digest": found.digest, "parts": parts}))
        return
    _show_digest(found)
