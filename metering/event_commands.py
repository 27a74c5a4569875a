"""`metering events show`: the whole story of one event; `export`: all of them."""

import json
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.table import Column

from metering.console import Table, console, literal, working
from metering.event_copies import NO_SOURCE, Copy, Correction
from metering.event_export import archived_lines
from metering.event_story import ChargeRow, Count, InvoiceLine, Story, story_of
from metering.explain import plain
from metering.rejected import Place
from metering.settings import settings
from metering.sinks.client import LONG_ANSWER_SECONDS, connect
from metering.state.amendments import BACKFILL, RESERVED
from metering.state.late import QUARANTINED, UNRESTATED
from metering.topics import Names
from metering.whatif import catalog_in_force

app = typer.Typer(no_args_is_help=True, help="Single usage events.")


@app.callback()
def _group() -> None:
    """Single usage events."""


@app.command()
def show(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The id that the event was sent with.")],
    customer: Annotated[str, typer.Option(help="Its customer, when the id is not unique.")] = "",
    source: Annotated[str, typer.Option(help="Its source, when the id is not unique; - is none.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; numbers are strings.")] = False,
) -> None:
    """Tell where an event is, whether it counts or why not, its hour, charges and invoice lines."""
    with connect(settings().clickhouse(), settings().database) as client:
        story = story_of(client, settings(), catalog_in_force(client), event_id, customer, source)
    topic = Names(settings()).events
    if as_json:
        console.print_json(json.dumps(_story_plain(story, topic)))
    else:
        _show(story, topic)


@app.command()
def export() -> None:
    """Write every archived event as a JSON line, in its order; `metering send -` takes them."""
    chosen = settings()
    # On a terminal the lines themselves show that it goes on.
    shown = nullcontext() if console.is_terminal else working("reading the archive")
    with connect(chosen.clickhouse(), chosen.database, answer_seconds=LONG_ANSWER_SECONDS) as client, shown:
        for line in archived_lines(client):
            sys.stdout.buffer.write(line)


def _show(story: Story, topic: str) -> None:
    who, told_by = story.identity, story.told_by
    source = who.source or NO_SOURCE
    console.print(
        literal(f"event {story.event_id}, customer {who.customer or '-'}, source {source}"), style="bold"
    )
    if told_by.time is not None and story.hour is not None:
        console.print(literal(f"{told_by.type} at {_instant(told_by.time)}: {told_by.data}"), soft_wrap=True)
        hour = datetime.fromtimestamp(story.hour, UTC)
        console.print(f"hour {hour:%Y-%m-%d %H:00} UTC, billing period {story.period}{_closed_words(story)}")
    _show_copies(story.copies, topic)
    if not story.is_counted:
        console.print(literal(_nowhere(story, topic)), soft_wrap=True)
        return
    _show_corrections(story)
    if story.data is None:
        console.print("it counts nowhere any more: it was voided")
        return
    if story.told_by.type == BACKFILL:
        console.print("it is the record of a backfill: see `metering backfill show`")
        return
    if story.told_by.type.startswith(RESERVED):
        console.print("it is a correction: see the story of the event that it carries")
        return
    if not story.counts:
        why = f"the catalog in force (revision {story.revision}) would refuse it now: {story.refusal}"
        console.print(literal(why if story.refusal else "no meter counts it: their filters leave it out"))
        return
    _show_counts(story)
    _show_charges(story.charges)
    _show_invoices(story.invoices)


def _closed_words(story: Story) -> str:
    closed = story.closed.get(story.period)
    return f", closed by the watermark {closed:%Y-%m-%d %H:%M} UTC" if closed else ""


def _nowhere(story: Story, topic: str) -> str:
    if story.told_by.outcome == "waiting":
        return "it counts nowhere yet: the worker has not come to it; see `metering status`"
    open_ones = [c for c in story.copies if c.state == "open"]
    if any(c.reason in (QUARANTINED, UNRESTATED) for c in open_ones):
        return (
            "it counts nowhere yet: its period was closed when it came, and it waits for a person:"
            f" `metering late approve {story.event_id}`, or discard the letter"
        )
    if not open_ones:
        return "it counts nowhere: no copy of it was accepted"
    return (
        "it counts nowhere: no copy of it was accepted. Mend the cause and run"
        f" `metering rejected retry {_named(open_ones[-1], topic)}`, or send it corrected with the same id"
    )


def _show_copies(copies: list[Copy], topic: str) -> None:
    table = Table(
        "Copy", "Appended (UTC)", "What became of it", title=f"In Kafka, topic {topic}", title_justify="left"
    )
    for copy in copies:
        said = ": ".join(part for part in (copy.outcome, copy.reason, copy.detail) if part)
        state = f" ({copy.state})" if copy.state else ""
        state += f", brought by backfill {copy.backfill}" if copy.backfill else ""
        place = _named(copy, topic)
        table.add_row(place, f"{copy.appended:%Y-%m-%d %H:%M:%S}", literal(said + state))
    console.print(table)


def _show_corrections(story: Story) -> None:
    if not story.corrections:
        return
    table = Table("Correction", "Appended (UTC)", "What it does", title="Corrected by", title_justify="left")
    for c in story.corrections:
        instead = "" if c.instead is None else f", its data is {_compact(c.instead)}"
        instead += f" as {c.counts_as}" if c.counts_as else ""
        backfill = f" by the {c.step} of backfill {c.backfill}" if c.backfill else ""
        said = f"{c.outcome}: {c.type}{backfill}{instead}; {c.actor}: {c.reason}"
        table.add_row(literal(c.event_id), f"{c.appended:%Y-%m-%d %H:%M:%S}", literal(said))
    console.print(table)


def _compact(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False)


def _named(copy: Copy, topic: str) -> str:
    return Place(*copy.spot).named(topic)


def _show_counts(story: Story) -> None:
    columns = [Column(name, justify="right") for name in ("Quantity", "Hour's total", "Of events")]
    title = f"Counts in (catalog revision {story.revision})"
    table = Table("Meter", "Dimensions", *columns, "Price", title=title, title_justify="left")
    for c in story.counts:
        dimensions = ", ".join(f"{name} {value}" for name, value in c.dimensions.items())
        total = "-" if c.total is None else plain(c.total)
        price = c.price or "-"
        reads = f"{price}: {c.unpriced}" if c.unpriced else price
        numbers = (plain(c.quantity), total, f"{c.events:,}")
        table.add_row(f"{c.meter} ({c.aggregation})", literal(dimensions), *numbers, literal(reads))
    console.print(table)


def _show_charges(charges: list[ChargeRow]) -> None:
    if not charges:
        console.print("no charge of this hour reads it")
        return
    right = [Column(name, justify="right") for name in ("Quantity", "Position", "Amount")]
    table = Table(
        "Period",
        "Price",
        "Hour (UTC)",
        *right,
        "Card",
        title="Charges that it is part of",
        title_justify="left",
    )
    for row in charges:
        position = f"{plain(row.before)} → {plain(row.after)}"
        amount = f"{row.amount:,.6f} {row.currency}"
        corrects = f" (corrects {row.corrects})" if row.corrects else ""
        hour = f"{row.hour:%Y-%m-%d %H:00}"
        card = f"{row.card}, version {row.card_version[:6]}"
        table.add_row(row.period, row.price + corrects, hour, plain(row.quantity), position, amount, card)
    console.print(table)


def _show_invoices(lines: list[InvoiceLine]) -> None:
    table = Table("Period", "Price", "Invoice", "State", "Line", title="Invoice lines", title_justify="left")
    for line in lines:
        invoice = line.number or line.invoice or "-"
        amount = "" if line.amount is None else f"{line.description}: {line.amount:,f} {line.currency}"
        said = "; ".join(part for part in (amount, line.reason) if part)
        table.add_row(line.period, line.price, invoice, line.state, literal(said))
    if lines:
        console.print(table)


def _story_plain(story: Story, topic: str) -> dict[str, Any]:
    told_by = story.told_by
    return {
        "id": story.event_id,
        "customer": story.identity.customer,
        "source": story.identity.source,
        "type": told_by.type,
        "time": None if told_by.time is None else _instant(told_by.time),
        "data": json.loads(told_by.data) if told_by.data else None,
        "data_that_counts": story.data,
        "outcome": told_by.outcome,
        "hour": None if story.hour is None else _text(datetime.fromtimestamp(story.hour, UTC)),
        "period": story.period,
        "closed": {period: _text(watermark) for period, watermark in story.closed.items()},
        "catalog_revision": story.revision,
        "refusal": story.refusal,
        "copies": [_copy_plain(copy, topic) for copy in story.copies],
        "corrections": [_texts(correction) for correction in story.corrections],
        "counts": [_texts(count) for count in story.counts],
        "charges": [_texts(row) for row in story.charges],
        "invoice_lines": [_texts(line) for line in story.invoices],
    }


def _copy_plain(copy: Copy, topic: str) -> dict[str, Any]:
    place = dict(zip(("topic", "partition", "offset", "index"), copy.spot, strict=True))
    return {
        "copy": _named(copy, topic),
        **place,
        "appended": _text(copy.appended),
        "outcome": copy.outcome,
        "reason": copy.reason,
        "detail": copy.detail,
        "letter": copy.state,
    }


def _texts(row: Correction | Count | ChargeRow | InvoiceLine) -> dict[str, Any]:
    return {k: v if v is None or isinstance(v, int | dict) else _text(v) for k, v in row._asdict().items()}


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03}Z"
    return str(value)


def _instant(time: int) -> str:
    return _text(datetime.fromtimestamp(time // 1_000, UTC).replace(microsecond=time % 1_000 * 1_000))
