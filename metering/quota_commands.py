"""`metering quota show | watch | top`, `metering grant add | list | revoke`, `metering limit set`."""

import asyncio
import getpass
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.live import Live

from metering.catalog.reader import read_latest
from metering.catalog.resolved import Catalog
from metering.console import Table, console
from metering.errors import UserError
from metering.quota.facts import problem
from metering.quota.wire import Fact, GrantFact, LimitFact
from metering.quota_facts import publish, read
from metering.quota_view import Follower, Found, Standing
from metering.rating.money import MICRO, format_exact, parse_decimal
from metering.settings import settings
from metering.topics import Names

quota_app = typer.Typer(no_args_is_help=True, help="How customers stand with their limits.")
grant_app = typer.Typer(no_args_is_help=True, help="Bonus units on top of a limit, at run time.")
limit_app = typer.Typer(no_args_is_help=True, help="Amounts of limits, at run time.")

_TOP = 20
_NEGATIVE = {"ignore_unknown_options": True}  # an amount may begin with a minus
Reason = Annotated[str, typer.Option(help="Why; it goes on record.")]
Actor = Annotated[str, typer.Option(help="Who; default: the user of this shell.")]
Customer = Annotated[str, typer.Argument(help="Customer id.")]
Limit = Annotated[str, typer.Argument(help="The id of the limit.")]
GrantName = Annotated[str, typer.Argument(help="The id of the grant, as `metering grant list` has it.")]
Scope = Annotated[str, typer.Argument(help="A customer, or a pool.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


# -- quota ---------------------------------------------------------------------------------------


@quota_app.command()
def show(customer: Customer, as_json: Json = False) -> None:
    """Show how a customer stands with each of its limits, its pool's included."""

    async def work(follower: Follower) -> None:
        found = follower.found()
        if as_json:
            console.print_json(json.dumps([_plain(one) for one in found.standings]))
        else:
            console.print(_table(customer, found))

    asyncio.run(_following(customer, work))


@quota_app.command()
def watch(
    customer: Customer, seconds: Annotated[float, typer.Option(min=0, help="Stop then; 0: never.")] = 0.0
) -> None:
    """Show it, and go on showing what changes."""

    async def work(follower: Follower) -> None:
        until = time.monotonic() + seconds if seconds else None
        with Live(_table(customer, follower.found()), console=console, auto_refresh=False) as live:
            while until is None or time.monotonic() < until:
                await follower.more()
                live.update(_table(customer, follower.found()), refresh=True)

    asyncio.run(_following(customer, work))


@quota_app.command()
def top(customer: Customer, as_json: Json = False) -> None:
    """Show a customer's limits by how much of each is used, the fullest first."""

    async def work(follower: Follower) -> None:
        found = follower.found()
        fullest = sorted(found.standings, key=lambda one: (-_share(one), one.limit))[:_TOP]
        if as_json:
            console.print_json(json.dumps([_plain(one) for one in fullest]))
        else:
            console.print(_table(customer, Found(fullest, found.emitted)))

    asyncio.run(_following(customer, work))


async def _following(customer: str, work: Callable[[Follower], Awaitable[None]]) -> None:
    catalog = await _catalog()
    if catalog.customer(customer) is None:
        raise UserError(f"no customer `{customer}` is in the catalog", hint="see `metering catalog show`")
    async with Follower(settings(), catalog.account_of(customer), customer) as follower:
        await work(follower)


async def _catalog() -> Catalog:
    catalog = await read_latest(settings().brokers(), Names(settings()).catalog)
    if catalog is None:
        raise UserError("no catalog was published", hint="run `metering catalog publish DIR`")
    return catalog


def _share(one: Standing) -> int:
    """Millionths of the limit that are used or held."""
    return (one.posted + one.reserved) * 1_000_000 // one.amount if one.amount else 0


def _table(customer: str, found: Found) -> Table:
    age = time.time_ns() // 1_000_000 - found.emitted
    heard = f"heard of {age / 1_000:.1f} s ago" if found.emitted else "no worker was heard of yet"
    table = Table(title=f"{customer} · {heard}", title_justify="left")
    for name in ("Limit", "Of", "Meter", "Kind", "State"):
        table.add_column(name)
    for name in ("Amount", "Used", "Held", "Left", "Until"):
        table.add_column(name, justify="right")
    for one in found.standings:
        left = "unlimited" if one.remaining is None else _amount(one.remaining)
        numbers = (_amount(one.amount), _amount(one.posted), _amount(one.reserved), left)
        table.add_row(
            *(one.limit, one.scope, one.meter, one.limit_kind, one.state, *numbers, _instant(one.window_end))
        )
    if not found.standings:
        table.caption = "no limit applies"
    return table


def _plain(one: Standing) -> dict[str, object]:
    numbers = {name: _amount(getattr(one, name)) for name in ("amount", "posted", "reserved")}
    left = None if one.remaining is None else _amount(one.remaining)
    return {**one._asdict(), **numbers, "remaining": left}


def _amount(micro: int) -> str:
    return format_exact(micro, MICRO)


def _instant(ms: int) -> str:
    """Rolling windows have no end."""
    if not 0 < ms < 253_402_300_800_000:
        return ""
    return datetime.fromtimestamp(ms // 1_000, UTC).isoformat()


# -- grant and limit -----------------------------------------------------------------------------


@grant_app.command("add", context_settings=_NEGATIVE)
def grant_add(
    scope: Scope,
    limit: Limit,
    amount: Annotated[str, typer.Argument(help="In what the limit counts.")],
    reason: Reason,
    begins: Annotated[str, typer.Option("--from", help="RFC 3339; default: now.")] = "",
    ends: Annotated[str, typer.Option("--to", help="RFC 3339; default: open.")] = "",
    name: Annotated[str, typer.Option("--id", help="An id of your own; the same one replaces it.")] = "",
    actor: Actor = "",
) -> None:
    """Give a customer or a pool more of a limit, from now on or for a while."""
    now = time.time_ns() // 1_000_000
    fact = GrantFact(
        id=name or uuid.uuid4().hex[:12],
        scope=scope,
        limit=limit,
        amount=str(_micro(amount)),
        starts=_ms(begins) if begins else now,
        ends=_ms(ends) if ends else 0,
        actor=_actor(actor),
        reason=_reason(reason),
    )
    _put(fact)
    console.print(f"[green]✓[/] grant `{fact.id}`: {amount} more of `{limit}` for {scope}")


@grant_app.command("list")
def grant_list(
    scope: Annotated[str, typer.Option(help="Only of this customer or pool.")] = "", as_json: Json = False
) -> None:
    """List the grants that were given at run time; those in the catalog's files stand there."""
    found = [
        fact
        for fact in asyncio.run(read(settings().brokers(), Names(settings()).quota_facts))
        if isinstance(fact, GrantFact) and scope in ("", fact.scope)
    ]
    if as_json:
        rows = [{**_fields(fact), "amount": _amount(int(fact.amount))} for fact in found]
        console.print_json(json.dumps(rows))
        return
    table = Table("Id", "Of", "Limit", "Amount", "From", "To", "", "By", "Why")
    for fact in found:
        state = "revoked" if fact.revoked else ""
        window = (_instant(fact.starts), _instant(fact.ends))
        table.add_row(
            *(fact.id, fact.scope, fact.limit, _amount(int(fact.amount)), *window, state),
            *(fact.actor, fact.reason),
        )
    console.print(table)


@grant_app.command("revoke")
def grant_revoke(scope: Scope, limit: Limit, name: GrantName, reason: Reason, actor: Actor = "") -> None:
    """Take a grant back: of the catalog or of run time; what was used of it stays used."""
    fact = GrantFact(name, scope, limit, "0", 0, revoked=True, actor=_actor(actor), reason=_reason(reason))
    _put(fact)
    console.print(f"[green]✓[/] grant `{name}` of {scope} is revoked")


@limit_app.command("set", context_settings=_NEGATIVE)
def limit_set(
    scope: Scope,
    limit: Limit,
    amount: Annotated[str, typer.Argument(help="The new amount; -1: unlimited; `catalog`: what it says.")],
    reason: Reason,
    actor: Actor = "",
) -> None:
    """Set the amount of a limit of a customer or a pool, at once and until it is set again."""
    cleared, unlimited = amount == "catalog", amount == "-1"
    micro = "" if cleared or unlimited else str(_micro(amount))
    _put(LimitFact(scope, limit, micro, cleared, _actor(actor), _reason(reason)))
    console.print(f"[green]✓[/] limit `{limit}` of {scope}: {amount}")


def _put(fact: Fact) -> None:
    asyncio.run(_publish(fact))


async def _publish(fact: Fact) -> None:
    catalog = await _catalog()
    now = time.time_ns() // 1_000_000
    said = problem(fact, {limit.id: limit for limit in catalog.timeline(fact.scope).at(now)})
    if said:
        raise UserError(said, hint="nothing was changed")
    await publish(settings().brokers(), Names(settings()).quota_facts, fact)


def _fields(fact: GrantFact) -> dict[str, object]:
    return {name: getattr(fact, name) for name in fact.__struct_fields__}


def _actor(actor: str) -> str:
    return actor.strip() or getpass.getuser()


def _reason(reason: str) -> str:
    if not reason.strip():
        raise UserError("this needs a reason in words", hint='add --reason "…"; it goes on record')
    return reason.strip()


def _micro(text: str) -> int:
    try:
        micro = parse_decimal(text, MICRO)
    except ValueError as error:
        raise UserError(f"`{text}` is no amount: {error}", hint="write a plain decimal number") from error
    if micro < 0:
        raise UserError(f"`{text}` is below zero", hint="`metering grant revoke` takes a grant back")
    return micro


def _ms(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"`{text}` is no instant", hint="write e.g. 2026-11-01T00:00:00Z") from error
    if instant.tzinfo is None:
        raise UserError(f"`{text}` has no zone", hint="end it with Z or an offset")
    return int(instant.timestamp()) * 1_000
