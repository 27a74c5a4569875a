"""`metering rejected list | show | retry | discard`."""

import asyncio
import getpass
import json
import re
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from metering.catalog.reader import read_latest
from metering.catalog.resolved import Catalog
from metering.console import console, errors, working
from metering.errors import UserError
from metering.redrive import Forecast, Forecaster, discard, send_again, wait_until_stored
from metering.rejected import STATES, Filter, Letter, Letters, State
from metering.rejected_screen import (
    SHOWN,
    forecast_plain,
    letter_plain,
    show_counts,
    show_forecasts,
    show_letters,
    show_whole,
    whole_plain,
)
from metering.settings import settings
from metering.sinks.client import connect
from metering.topics import Names

app = typer.Typer(no_args_is_help=True, help="Dead letters: events that were refused.")

_AGES = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}

Named = Annotated[list[str] | None, typer.Argument(metavar="[LETTER]...", help="E.g. 2:17 or 2:17:0.")]
Code = Annotated[str, typer.Option("--code", help="Only letters refused for this, e.g. unknown_type.")]
Reason = Annotated[str, typer.Option("--reason", "--code", help="Only letters refused for this code.")]
Customer = Annotated[str, typer.Option(help="Only letters of this customer.")]
Since = Annotated[str, typer.Option(help="Appended from here on: 2026-11-20, 2026-11-20T10:00Z, 24h, 7d.")]
Until = Annotated[str, typer.Option(help="Appended before this instant.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without it, what would be done is shown.")]
Actor = Annotated[str, typer.Option(help="Who does it, for the record; default: the user of this shell.")]
Why = Annotated[str, typer.Option("--reason", help="Why, in words, for the record.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many letters, the oldest first.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_letters(
    reason: Reason = "",
    customer: Customer = "",
    since: Since = "",
    until: Until = "",
    state: Annotated[str, typer.Option(help="Only open, retried or discarded letters.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many letters, open and new ones first.")] = 50,
    as_json: Json = False,
) -> None:
    """List dead letters with their state, and count them by reason."""
    wanted = _filter(reason, customer, since, until, _states(state))
    with connect(settings().clickhouse(), settings().database) as client:
        letters = Letters(client, Names(settings()).events)
        found, counts = letters.find(wanted, limit), letters.count(wanted)
    if as_json:
        plain = [letter_plain(letter, letters.events_topic) for letter in found]
        _print_json({"letters": plain, "counts": counts})
    else:
        show_letters(found, counts, letters.events_topic)


@app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="E.g. 2:17 or 2:17:0.")],
    as_json: Json = False,
) -> None:
    """Show one dead letter whole: its place in Kafka, why, its payload, and what was done about it."""
    with connect(settings().clickhouse(), settings().database) as client:
        letters = Letters(client, Names(settings()).events)
        named = letters.named(letter)
        if len(named) > 1:
            names = ", ".join(x.place.named(letters.events_topic) for x in named[:SHOWN])
            raise UserError(f"`{letter}` holds {len(named)} dead letters", hint=f"name one: {names}")
        (found,) = named
        payload = next(letters.payloads(named))[found]
        actions = letters.actions(found.place)
    if as_json:
        _print_json(whole_plain(found, payload, actions, letters.events_topic))
    else:
        show_whole(found, payload, actions)


@app.command()
def retry(
    letter: Named = None,
    reason: Reason = "",
    customer: Customer = "",
    since: Since = "",
    until: Until = "",
    yes: Yes = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Send also what would be refused again.")] = False,
    actor: Actor = "",
    limit: Limit = 10_000,
    as_json: Json = False,
) -> None:
    """Send dead letters again as they came, with their identity: none can count twice."""
    chosen, catalog = settings(), _catalog()
    wanted = _filter(reason, customer, since, until, ("open",))
    forecasts: list[Forecast] = []
    ends: dict[int, int] = {}
    with connect(chosen.clickhouse(), chosen.database) as client:
        letters = Letters(client, Names(chosen).events)
        found = _choose(letters, letter, wanted, limit, ("open", "discarded"))
        forecaster = Forecaster(client, chosen, catalog, time.time_ns() // 1_000_000)
        with working("asking what would come of each letter") as tell:
            for payloads in letters.payloads(found):
                made = forecaster.of(payloads)
                due = [f for f in made if f.is_sent(anyway=anyway)]
                if yes and due:
                    ends |= asyncio.run(send_again(chosen, due, _actor(actor)))
                forecasts += [f._replace(payload=b"") for f in made]
                tell(f"{len(forecasts):,} of {len(found):,} letters")
        _say_retry(forecasts, letters, yes=yes, anyway=anyway, as_json=as_json)
        _wait(client, ends)


def _say_retry(
    forecasts: list[Forecast], letters: Letters, *, yes: bool, anyway: bool, as_json: bool
) -> None:
    due = sum(f.is_sent(anyway=anyway) for f in forecasts)
    if as_json:
        topic = letters.events_topic
        plain = [forecast_plain(f, topic, sent=yes and f.is_sent(anyway=anyway)) for f in forecasts]
        _print_json({"done": yes, "sent": due if yes else 0, "letters": plain})
        return
    if not forecasts:
        _say_nothing(letters)
        return
    show_forecasts(forecasts, letters.events_topic)
    left = f"{len(forecasts) - due:,} stay as they are"
    if yes:
        console.print(f"[green]✓[/] {due:,} were sent again; {left}")
    elif due:
        console.print(f"nothing was sent: --yes sends {due:,} of them; {left}")
    else:
        console.print("nothing would be sent: mend the cause, or discard what is not wanted")


@app.command("discard")
def discard_letters(
    letter: Named = None,
    code: Code = "",
    customer: Customer = "",
    since: Since = "",
    until: Until = "",
    reason: Why = "",
    actor: Actor = "",
    yes: Yes = False,
    limit: Limit = 10_000,
    as_json: Json = False,
) -> None:
    """Say of dead letters that they are not wanted; they stay, with who said so and why."""
    chosen = settings()
    wanted = _filter(code, customer, since, until, ("open",))
    if not letter and wanted == Filter(states=("open",)):
        hint = "name them, or use --code, --customer, --since, --until"
        raise UserError("discard which letters?", hint=hint)
    if yes and not reason.strip():
        raise UserError("a discard needs a reason in words", hint='add --reason "…"; it goes on record')
    with connect(chosen.clickhouse(), chosen.database) as client:
        letters = Letters(client, Names(chosen).events)
        if reason and letters.count(Filter(reason=reason)):
            hint = f"--code {reason} takes the letters with this code; --reason says why they go"
            raise UserError(f"`{reason}` is a code and no reason to discard", hint=hint)
        found = _choose(letters, letter, wanted, limit, ("open",))
        ends = asyncio.run(discard(chosen, found, _actor(actor), reason)) if yes and found else {}
        _say_discard(found, letters, yes=yes, as_json=as_json)
        _wait(client, ends)


def _say_discard(found: list[Letter], letters: Letters, *, yes: bool, as_json: bool) -> None:
    if as_json:
        plain = [letter_plain(x, letters.events_topic) for x in found]
        _print_json({"done": yes, "discarded": len(found) if yes else 0, "letters": plain})
    elif not found:
        _say_nothing(letters)
    elif yes:
        console.print(f"[green]✓[/] {len(found):,} discarded; they stay on record")
    else:
        names = ", ".join(x.place.named(letters.events_topic) for x in found[:SHOWN])
        more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
        console.print(f"nothing was done: --yes discards {len(found):,}: {names}{more}", soft_wrap=True)


def _say_nothing(letters: Letters) -> None:
    console.print("no open dead letter is like that; these are open:")
    show_counts(letters.count(Filter(states=("open",))))


def _wait(client: Any, ends: dict[int, int]) -> None:
    """Let the books catch up, so that the next command sees what this one did."""
    if not wait_until_stored(client, Names(settings()).rejected, ends):
        errors.print("[yellow]it is in Kafka, not yet in the books: does the sink run?[/] `metering status`")


def _choose(
    letters: Letters, names: list[str] | None, wanted: Filter, limit: int, allowed: tuple[State, ...]
) -> list[Letter]:
    if not names:
        return letters.find(wanted, limit, oldest_first=True)
    if wanted != Filter(states=("open",)):
        raise UserError("name letters or filter them, not both", hint="leave one of them out")
    found: dict[Letter, None] = {}
    for name in names:
        named = [x for x in letters.named(name) if x.state in allowed]
        if not named:
            raise UserError(f"`{name}` is done with", hint=f"see `metering rejected show {name}`")
        found |= dict.fromkeys(named)
    return list(found)


def _catalog() -> Catalog:
    catalog = asyncio.run(read_latest(settings().brokers(), Names(settings()).catalog))
    if catalog is None:
        raise UserError("no catalog is published", hint="run `metering catalog publish DIR`")
    return catalog


def _actor(name: str) -> str:
    return name.strip() or getpass.getuser()


def _filter(reason: str, customer: str, since: str, until: str, states: tuple[State, ...]) -> Filter:
    wanted = Filter(reason, customer, states=states)
    if since:
        wanted = wanted._replace(since=_instant(since))
    return wanted._replace(until=_instant(until)) if until else wanted


def _states(text: str) -> tuple[State, ...]:
    found = tuple(state for state in STATES if text in ("", state))
    if not found:
        raise UserError(f"`{text}` is not a state", hint=f"use one of {', '.join(STATES)}")
    return found


def _instant(text: str) -> int:
    """Epoch ms of an instant, or of an age like `24h`; without a zone it is UTC."""
    age = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if age:
        return time.time_ns() // 1_000_000 - int(age[1]) * _AGES[age[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "write 2026-11-20, 2026-11-20T10:00Z, or an age: 30m, 24h, 7d"
        raise UserError(f"`{text}` is not an instant", hint=hint) from error
    return int(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1_000)


def _print_json(value: Any) -> None:
    console.print_json(json.dumps(value))
