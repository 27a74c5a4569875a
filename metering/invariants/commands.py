"""`metering watch`: the invariants of a live deployment, once or until it is stopped."""

import json
import signal
import threading
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.markup import escape

from metering.console import Table, console, literal, working
from metering.invariants.metrics import ADDRESS
from metering.invariants.runner import Finding, Watch
from metering.settings import settings

EXIT_BROKEN, EXIT_UNDECIDED = 1, 2
_SHOWN = 20
PORT = 9464


def watch(
    every: Annotated[float, typer.Option(min=1, help="Seconds from one round to the next.")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="One round, then stop.")] = False,
    port: Annotated[int, typer.Option(help="Serve metrics on this port; 0: none.")] = PORT,
    host: Annotated[str, typer.Option(help="Address of that port.")] = ADDRESS,
    periods: Annotated[int, typer.Option(min=0, help="Only the newest billing periods; 0: all.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; a line a round.")] = False,
) -> None:
    """Check what must always hold; with --once, exit code 1 when something is broken, 2 when undecided."""
    from metering.invariants.registry import ALL  # numpy and Stripe's currencies take a moment

    watching = Watch(settings(), ALL, newest_periods=periods)
    if once:
        with working("checking what must always hold"):
            findings = watching.round()
        (_show_json if as_json else show)(findings)
        raise typer.Exit(_exit_code(findings))
    _go_on(watching, every, (host, port), _show_json if as_json else show)


def _exit_code(findings: list[Finding]) -> int:
    if any(finding.rows for finding in findings):
        return EXIT_BROKEN
    return EXIT_UNDECIDED if any(finding.unknown for finding in findings) else 0


def _go_on(
    watching: Watch, every: float, place: tuple[str, int], tell: Callable[[list[Finding]], None]
) -> None:
    from metering.invariants.metrics import Metrics

    metrics, (host, port) = Metrics(), place
    if port:
        metrics.serve(port, host)
        console.print(f"metrics on http://{host}:{port}/metrics; Ctrl-C stops")
    before: list[tuple[bool, str]] = []
    stopped = _told_to_stop()
    while not stopped.is_set():
        began = time.monotonic()
        findings = watching.round()
        metrics.note(findings)
        now = [(finding.holds, finding.unknown) for finding in findings]
        if now != before:  # say what has changed, not the same each minute
            tell(findings)
        before = now
        stopped.wait(max(0.0, every - (time.monotonic() - began)))
    console.print("stopped")


def _told_to_stop() -> threading.Event:
    """Set by SIGINT and SIGTERM: an exception in the middle of a round can get lost where it is raised."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


def _show_json(findings: list[Finding]) -> None:
    """The findings as a line of JSON, for a program that reads on."""
    plain = [
        {"invariant": f.invariant.name, "holds": f.holds, "undecided": f.unknown, "rows": f.rows}
        for f in findings
    ]
    console.print(json.dumps(plain), markup=False, soft_wrap=True)


def show(findings: list[Finding]) -> None:
    """The findings on the screen: all in a list, then each broken one with its rows and what to do."""
    console.print(time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
    listed = Table.grid(padding=(0, 2))
    for finding in findings:
        mark = "[green]✓[/]" if finding.holds else "[yellow]?[/]" if finding.unknown else "[red]✗[/]"
        listed.add_row(mark, finding.invariant.name, f"[dim]{finding.invariant.means}[/]")
    console.print(listed)
    for finding in findings:
        if finding.unknown:
            said = escape(finding.unknown)
            console.print(f"[yellow]? {finding.invariant.name}[/] is not decided: {said}", soft_wrap=True)
        elif finding.rows:
            _show_broken(finding)
    console.print(_summary(findings))


def _show_broken(finding: Finding) -> None:
    console.print(f"[red]✗ {finding.invariant.name}[/]")
    table = Table("Where", "Found", "Expected")
    for row in finding.rows[:_SHOWN]:
        table.add_row(*map(literal, row))
    console.print(table)
    if len(finding.rows) > _SHOWN:
        console.print(f"and {len(finding.rows) - _SHOWN:,} more")
    console.print(f"→ {escape(finding.invariant.remedy)}", soft_wrap=True)


def _summary(findings: list[Finding]) -> str:
    broken, undecided = sum(bool(f.rows) for f in findings), sum(bool(f.unknown) for f in findings)
    if not broken and not undecided:
        return f"[green]all {len(findings)} hold[/]"
    parts = [f"[red]{broken} broken[/]"] * bool(broken) + [f"[yellow]{undecided} undecided[/]"] * bool(
        undecided
    )
    return f"{', '.join(parts)}, {len(findings) - broken - undecided} hold"
