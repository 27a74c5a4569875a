"""How backfills look on a terminal, and as JSON."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from rich.table import Column

from metering.backfill.books import Part
from metering.backfill.plan import ORDER
from metering.backfill.preparing import Prepared
from metering.backfill.rehearsal import Amount
from metering.backfill.running import Outcome, instant
from metering.console import Table, console, literal
from metering.rating.money import MICRO, format_exact, format_micro

SHOWN = 30
_VERBS = {"add": "added", "void": "voided", "amend": "amended", "restore": "restored"}


def show_problems(file: str, outcome: Outcome) -> None:
    """Why events cannot count, by line."""
    for problem in outcome.problems[:SHOWN]:
        place = f"{file}:{problem.line}" if problem.line else "archive"
        console.print(literal(f"{place} {problem.reason}: {problem.detail}"), style="yellow", soft_wrap=True)
    if len(outcome.problems) > SHOWN:
        console.print(f"… and {len(outcome.problems) - SHOWN:,} more")


def show_changes(prepared: list[Prepared]) -> None:
    """What a plan changes: units and charges, and how many events."""
    units = Table("Customer", "Period", "Meter", *_numbers("Events", "Units before", "After"))
    counted = [u for one in prepared for u in one.units]
    for u in counted[:SHOWN]:
        events = f"{u.events_before:,} → {u.events_after:,}"
        moved = [format_exact(u.before, MICRO), format_exact(u.after, MICRO)]
        units.add_row(u.customer, u.period, u.meter, events, *moved)
    amounts = Table("Customer", "Period", "Price", *_numbers("Before", "After", "Difference"), "", "Where")
    rated = sorted((a for one in prepared for a in one.rated.amounts), key=lambda a: -abs(a.after - a.before))
    for a in sorted(rated[:SHOWN]):
        moved = [format_micro(a.before), format_micro(a.after), _signed(a.after - a.before)]
        amounts.add_row(a.customer, a.period, a.price, *moved, a.currency, _where(a))
    for table, found in ((units, len(counted)), (amounts, len(rated))):
        if table.row_count:
            console.print(table)
        if found > SHOWN:
            console.print(f"… and {found - SHOWN:,} more, with --json all of them")
    _show_totals(prepared)
    for customer, meter, detail in [missing for one in prepared for missing in one.rated.unpriced][:SHOWN]:
        console.print(literal(f"no price: {customer} {meter}: {detail}"), style="red", soft_wrap=True)


def _where(amount: Amount) -> str:
    return f"closed: adjusted in {amount.adjusted_in}" if amount.adjusted_in else "open: rated anew"


def _show_totals(prepared: list[Prepared]) -> None:
    for currency, moved in sorted(_differences(prepared).items()):
        console.print(f"charges change by [bold]{_signed(moved)} {currency}[/] in all")
    counts = Counter(o.kind for one in prepared for o in one.plan.operations)
    said = ", ".join(f"{counts[kind]:,} {_VERBS[kind]}" for kind in ORDER if counts[kind])
    same = sum(one.plan.unchanged for one in prepared)
    console.print(f"events: {said or 'none changes'}" + (f"; {same:,} are there as they are" if same else ""))


def _differences(prepared: Iterable[Prepared]) -> dict[str, int]:
    found: defaultdict[str, int] = defaultdict(int)
    for amount in (a for one in prepared for a in one.rated.amounts):
        found[amount.currency] += amount.after - amount.before
    return dict(found)


def _signed(micro: int) -> str:
    return ("+" if micro > 0 else "") + format_micro(micro)


def _numbers(*names: str) -> list[Column]:
    return [Column(name, justify="right", no_wrap=True) for name in names]


def show_list(parts: list[Part]) -> None:
    """Each backfill in a line or two: its apply and its revert."""
    table = Table("Backfill", "Step", "When (UTC)", "Who and why", "Customers", "Operations", "State")
    for (backfill, step), found in _steps(parts).items():
        first = found[0]
        announced, arrived = (sum(getattr(p, name) for p in found) for name in ("announced", "arrived"))
        state = "complete" if announced == arrived else f"incomplete: {announced - arrived:,} missing"
        what = f"{step} ({first.mode} {first.file})" if step == "apply" else step
        table.add_row(
            backfill,
            literal(what),
            instant(first.made).removesuffix(" UTC"),
            literal(f"{first.actor}: {first.reason}"),
            f"{len(found):,}",
            f"{announced:,}",
            state,
        )
    if table.row_count:
        console.print(table)
    else:
        console.print("no backfills")


def show_parts(parts: list[Part], operations: list[tuple[Any, ...]]) -> None:
    """One backfill customer by customer, and what it did to which event."""
    show_list(parts)
    table = Table("Step", "Customer", *_numbers(*(_VERBS[k].title() for k in ORDER), "Arrived"))
    for p in parts[:SHOWN]:
        numbers = (p.voids, p.amends, p.restores, p.adds)
        table.add_row(
            p.step, literal(p.customer), *(f"{n:,}" for n in numbers), f"{p.arrived:,} of {p.announced:,}"
        )
    console.print(table)
    events = Table("Step", "What", "Customer", "Source", "Event", "Its time (UTC)")
    for step, what, customer, source, name, at in operations:
        events.add_row(step, what, *map(literal, (customer, source or "-", name)), f"{at:%Y-%m-%d %H:%M:%S}")
    console.print(events)


def _steps(parts: Iterable[Part]) -> dict[tuple[str, str], list[Part]]:
    found: defaultdict[tuple[str, str], list[Part]] = defaultdict(list)
    for part in parts:
        found[part.backfill, part.step].append(part)
    return dict(found)


def outcome_plain(outcome: Outcome) -> dict[str, Any]:
    """A preview as JSON values; numbers are strings."""
    counts = Counter(o.kind for one in outcome.prepared for o in one.plan.operations)
    return {
        "backfill": outcome.stamp.backfill,
        "step": outcome.stamp.step,
        "sent": outcome.sent,
        "missing": outcome.missing,
        "problems": [problem._asdict() for problem in outcome.problems],
        "events": {kind: counts[kind] for kind in ORDER},
        "unchanged": sum(one.plan.unchanged for one in outcome.prepared),
        "units": [
            {**u._asdict(), "before": format_exact(u.before, MICRO), "after": format_exact(u.after, MICRO)}
            for one in outcome.prepared
            for u in one.units
        ],
        "amounts": [
            {**a._asdict(), "before": format_micro(a.before), "after": format_micro(a.after)}
            for one in outcome.prepared
            for a in one.rated.amounts
        ],
        "unpriced": [list(missing) for one in outcome.prepared for missing in one.rated.unpriced],
    }


def part_plain(part: Part) -> dict[str, Any]:
    """A part as JSON values."""
    return {**part._asdict(), "announced": part.announced, "complete": part.is_complete}
