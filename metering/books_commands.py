"""Commands that read the books or a file and rate: explain, audit, what-if, offline rating."""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column

from metering.audit import Audit, run_audit
from metering.catalog.load import load_folder
from metering.console import Table, console, literal, working
from metering.corrected import corrected_usage
from metering.errors import UserError
from metering.explain import PriceExplanation, as_plain, explanations, in_words, provenance
from metering.offline import Offline, rate_file
from metering.periods import as_plain as period_plain
from metering.periods import periods as period_states
from metering.periods import restated_words, revisions
from metering.rating.money import format_micro
from metering.rating.words import row_lines
from metering.settings import settings
from metering.sinks.client import LONG_ANSWER_SECONDS, connect
from metering.sinks.queries import Books
from metering.state import calendar
from metering.whatif import WhatIf, what_if

_SHOWN = 30

Json = Annotated[bool, typer.Option("--json", help="Print JSON; numbers are strings.")]
PeriodName = Annotated[str, typer.Option(help="Billing period, e.g. 2026-11; default: this month.")]
CatalogFolder = Annotated[Path, typer.Option("--catalog", help="Folder of the catalog's YAML files.")]


def billing_period(name: str) -> str:
    """A billing period as it was typed, or this month."""
    name = name or time.strftime("%Y-%m", time.gmtime())
    try:
        calendar.period(name)
    except ValueError as error:
        raise UserError(f"`{name}` is not a billing period", hint="write it as 2026-11") from error
    return name


def _hour(text: str) -> int:
    if not text:
        return -1
    try:
        hour = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"`{text}` is not an hour", hint="write it as 2026-11-20T10") from error
    hour = hour.replace(tzinfo=hour.tzinfo or UTC)
    return int(hour.timestamp()) // 3_600 * 3_600


def _patient() -> Any:
    """A client for questions over all the books."""
    url, database = settings().clickhouse(), settings().database
    return connect(url, database, answer_seconds=LONG_ANSWER_SECONDS)


def explain(
    customer: Annotated[str, typer.Argument(help="Customer id.")],
    period: PeriodName = "",
    price: Annotated[str, typer.Option(help="One price; shows its hours too.")] = "",
    hour: Annotated[str, typer.Option(help="One hour, UTC, e.g. 2026-11-20T10.")] = "",
    as_json: Json = False,
) -> None:
    """Say why a customer pays what it pays: tiers, units, prices, effects, rounding, events."""
    period, at = billing_period(period), _hour(hour)
    with connect(settings().clickhouse(), settings().database) as client:
        found = explanations(client, customer, period, price, at)
        bill = Books(client).bill(customer, period)
        closes = revisions(client, customer, period)
        corrected = corrected_usage(client, customer, {period, *(one.corrects for one in found)}, at)
    if not found or bill is None:
        raise UserError(
            f"nothing was charged to `{customer}` here",
            hint=f"see `metering bill {customer} --period {period}` for what there is",
        )
    if as_json:
        console.print_json(json.dumps([as_plain(one) for one in found]))
        return
    state = "closed" if bill.is_closed else "open, still being metered"
    state = "restated" if len(closes) > 1 else state
    console.print(f"[bold]{bill.name}[/], {period}, {bill.currency} ({state})", highlight=False)
    for line in (line for close in closes for line in restated_words(close)):
        console.print(literal(line), soft_wrap=True)
    for one in found:
        _say(one, hourly=bool(price) and at < 0, with_events=at >= 0)
    for number, line in enumerate(corrected):
        console.print(literal(line if number else f"\nUsage that was corrected:\n{line}"), soft_wrap=True)
    if not price and at < 0:
        console.print(f"\nThese {len(found)} lines come to [bold]{bill.total:,.6f} {bill.currency}[/].")


def _say(found: PriceExplanation, *, hourly: bool, with_events: bool) -> None:
    console.print()
    for number, line in enumerate(in_words(found, hourly=hourly)):
        console.print(f"[bold]{line}[/]" if number == 0 else line, highlight=False, soft_wrap=True)
    if with_events:
        for hour in found.hours:
            console.print(f"    {provenance(hour)}", highlight=False, soft_wrap=True)


def periods(
    customer: Annotated[str, typer.Option(help="One customer; default: all.")] = "",
    as_json: Json = False,
) -> None:
    """Show how far billing periods have come, by watermark: open, grace, closed, restated."""
    with connect(settings().clickhouse(), settings().database) as client:
        found = period_states(client, settings(), customer)
    if as_json:
        console.print_json(json.dumps([period_plain(one) for one in found]))
        return
    table = Table(
        "Customer", "Period", "State", "Watermark (UTC)", "Revision", _right("Charges"), _right("Sum")
    )
    table.add_column("Digest", no_wrap=True)
    for one in found:
        mark = f"{one.closed:%Y-%m-%d %H:%M}" if one.closed else f"closes at {one.closes:%Y-%m-%d %H:%M}"
        mark += f", hours over until {one.over:%Y-%m-%d %H:%M}" if one.state == "open" and one.over else ""
        books = (str(one.revision or ""), f"{one.charges:,}", f"{one.amount:,.6f} {one.currency}")
        table.add_row(literal(one.customer), one.period, one.state, mark, *books, one.digest[:12])
    console.print(table)


def audit(
    period: Annotated[str, typer.Option(help="Billing period; default: all.")] = "",
    as_json: Json = False,
) -> None:
    """Compute hourly totals and charges again in SQL and compare; exit code 1 when they differ."""
    with _patient() as client, working("computing totals and charges again"):
        found = run_audit(client, billing_period(period) if period else "")
    if as_json:
        console.print_json(json.dumps(_audit_plain(found)))
    else:
        _show_audit(found)
    raise typer.Exit(0 if found.agrees else 1)


def _audit_plain(found: Audit) -> dict[str, Any]:
    return {
        "agrees": found.agrees,
        "hourly_totals": found.totals,
        "charges": found.charges,
        "amount": str(found.amount),
        "explained_rows": found.explained,
        "closed_periods": found.closes,
        "differences": [difference._asdict() for difference in found.differences],
        "not_covered": [{**u._asdict(), "amount": str(u.amount)} for u in found.uncovered],
    }


def _show_audit(found: Audit) -> None:
    console.print(f"{found.totals:,} hourly totals against the archive")
    console.print(f"{found.charges:,} charges against the hourly totals, {found.amount or 0:,.6f} in all")
    console.print(f"{found.explained:,} rows against their own parts, {found.closes:,} closed periods")
    for left in found.uncovered:
        what = f"{left.rows:,} rows of {left.line} {left.model}".rstrip()
        console.print(f"[dim]not computed again: {what}, {left.amount:,.6f}[/]")
    if found.agrees:
        console.print("[green]✓[/] everything agrees")
        return
    table = Table("Check", "Customer", "What", "Hour", "In the books", "Expected")
    for d in found.differences[:_SHOWN]:
        table.add_row(d.check, d.customer, d.what, d.hour, d.in_books, d.expected)
    console.print(table)
    console.print(f"[red]✗ {len(found.differences):,} differences[/]")


def whatif(
    catalog: CatalogFolder,
    period: PeriodName = "",
    customer: Annotated[str, typer.Option(help="One customer; default: all.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Write all rows here as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write all rows here as Parquet.")] = None,
    as_json: Json = False,
) -> None:
    """Rate history under another catalog and compare; nothing is written to the books."""
    new, span = load_folder(catalog), calendar.period(billing_period(period))
    with _patient() as client, working("rating the history again"):
        found = what_if(client, new, span, customer)
    if csv is not None:
        found.table.to_csv(csv, index=False)
    if parquet is not None:
        found.table.to_parquet(parquet, index=False)
    if as_json:
        rows = found.table.astype(str).to_dict("records")
        unpriced = [{**one._asdict(), "quantity": format_micro(one.quantity)} for one in found.unpriced]
        console.print_json(json.dumps({"rows": rows, "unpriced": unpriced}))
    else:
        _show_whatif(found)
    raise typer.Exit(1 if found.unpriced else 0)


def _show_whatif(found: WhatIf) -> None:
    table = Table("Customer", "Price", *(_right(name) for name in ("Old", "New", "Difference")))
    for row in found.table.head(_SHOWN).itertuples(index=False):
        table.add_row(
            row.customer, row.price, f"{row.old:,.6f}", f"{row.new:,.6f}", f"{row.difference:+,.6f}"
        )
    if len(found.table) > _SHOWN:
        table.add_row("…", f"{len(found.table) - _SHOWN:,} more", "", "", "")
    old, new_sum = sum(found.table["old"]), sum(found.table["new"])
    table.add_section()
    table.add_row("total", "", f"{old:,.6f}", f"{new_sum:,.6f}", f"{new_sum - old:+,.6f}")
    console.print(table)
    for missing in found.unpriced[:_SHOWN]:
        console.print(f"[red]no price:[/] {missing.customer} {missing.meter}: {missing.detail}")


def _right(name: str) -> Any:
    return Column(name, justify="right", no_wrap=True)


def rate(
    catalog: CatalogFolder,
    usage: Annotated[Path, typer.Option(help="Events: JSON lines, or CSV with a header.")],
    period: Annotated[str, typer.Option(help="Only this billing period, e.g. 2026-11.")] = "",
    as_json: Json = False,
) -> None:
    """Rate a file of usage events without Kafka or ClickHouse, as if its periods were closed."""
    try:
        raw = usage.read_bytes()
    except OSError as error:
        raise UserError(
            f"{usage} cannot be read: {error.strerror}", hint="give the path of a file"
        ) from error
    name = billing_period(period) if period else ""
    with working("rating the file"):
        found = rate_file(load_folder(catalog), usage.name, raw, name)
    if as_json:
        console.print_json(json.dumps(_offline_plain(found)))
    else:
        _show_offline(found, usage)
    raise typer.Exit(1 if found.unpriced or found.rejected else 0)


def _offline_plain(found: Offline) -> dict[str, Any]:
    return {
        "events": found.events,
        "duplicates": found.duplicates,
        "rejected": [r._asdict() for r in found.rejected],
        "unpriced": [{**u._asdict(), "quantity": format_micro(u.quantity)} for u in found.unpriced],
        "charges": [
            {
                "period": name,
                "customer": row.customer,
                "price": row.price,
                "line": row.kind,
                "hour": _iso(row.hour),
                "currency": row.origin.currency,
                "amount": format_micro(row.amount),
                "explanation": row_lines(row),
            }
            for name, rows in found.rows.items()
            for row in rows
        ],
    }


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _show_offline(found: Offline, file: Path) -> None:
    for r in found.rejected[:_SHOWN]:
        console.print(f"[yellow]{file}:{r.line}[/] {r.reason}: {r.detail}", highlight=False)
    for name, rows in found.rows.items():
        table = Table(
            "Customer", "Price", "Line", _right("Amount"), "", title=f"{name}", title_justify="left"
        )
        for customer, price, line, amount, currency in _totals(rows):
            table.add_row(customer, price, line, amount, currency)
        console.print(table)
    for missing in found.unpriced[:_SHOWN]:
        console.print(
            f"[red]no price:[/] {missing.customer} {missing.meter} {_iso(missing.hour)}: {missing.detail}"
        )
    console.print(
        f"{found.events:,} events, {found.duplicates:,} duplicates, {len(found.rejected):,} rejected"
    )


def _totals(rows: Iterable[Any]) -> list[tuple[str, str, str, str, str]]:
    sums: dict[tuple[str, str, str, str], int] = {}
    for row in rows:
        place = (row.customer, row.price, row.kind, row.origin.currency)
        sums[place] = sums.get(place, 0) + row.amount
    by_customer: dict[tuple[str, str], int] = {}
    for (customer, _, _, currency), amount in sums.items():
        by_customer[customer, currency] = by_customer.get((customer, currency), 0) + amount
    found = []
    for (customer, currency), total in by_customer.items():
        for (c, price, line, cur), amount in sums.items():
            if (c, cur) == (customer, currency):
                found.append((customer, price, line, format_micro(amount), currency))
        found.append((f"[bold]{customer}", "", "", f"[bold]{format_micro(total)}", currency))
    return found
