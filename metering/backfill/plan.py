"""The difference between what counts and what should: voids, amendments, restorations, new events.

Pure. A plan is made from the state of the books, so that a second run of the same backfill holds only
what the first one left.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from metering.backfill.archive import Book, Held, is_same
from metering.backfill.request import Line, Problem, Request, identity
from metering.events import UsageEvent

Kind = Literal["void", "amend", "restore", "add"]
ORDER: tuple[Kind, ...] = ("void", "amend", "restore", "add")


class Operation(NamedTuple):
    """One event to be sent.

    `event` is the new event of an add, what counts now of a void and an amend, what was sent first of a
    restore. `instead` is the data that counts then. `line` is 0 for what the file does not hold.
    """

    kind: Kind
    event: UsageEvent
    instead: dict[str, Any] | None = None
    line: int = 0
    raw: bytes = b""


@dataclass
class Plan:
    """What is to be sent, in order, and why some of it cannot be."""

    operations: list[Operation] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unchanged: int = 0

    def counts(self, customer: str) -> dict[str, int]:
        """The number of operations of a customer by kind."""
        found = Counter(o.kind for o in self.operations if o.event.customer == customer)
        return {kind: found[kind] for kind in ORDER}

    @property
    def customers(self) -> list[str]:
        """The customers that it touches."""
        return sorted({o.event.customer for o in self.operations})

    def sort(self) -> None:
        """Voids first, each kind by time: the latest value is taken away last."""
        self.operations.sort(key=lambda o: (ORDER.index(o.kind), o.event.at, identity(o.event)))


def plan_apply(request: Request, lines: Iterable[Line], known: Book, replaced: Book) -> Plan:
    """What makes the books hold the lines; `replaced` is what stands in the range of a replacement."""
    plan = Plan()
    kept = set()
    for line in lines:
        kept.add(identity(line.event))
        held = known.get(identity(line.event))
        if held is None:
            plan.operations.append(Operation("add", line.event, None, line.number, line.raw))
        else:
            _meet(plan, request, line, held)
    for place, held in replaced.items():
        now = held.now
        if place not in kept and now is not None:
            plan.operations.append(Operation("void", now))
    plan.sort()
    return plan


def _meet(plan: Plan, request: Request, line: Line, held: Held) -> None:
    """A line whose event is in the archive already."""
    first, now = held.first.event, held.now
    if (first.type, first.at) != (line.event.type, line.event.at):
        text = f"Event `{line.event.id}` came before with another type or time; give the new one another id."
        plan.problems.append(Problem(line.number, "conflict", text))
    elif is_same(now, line.event):
        plan.unchanged += 1
    elif now is None:
        plan.operations.append(Operation("restore", first, line.event.data, line.number))
    elif request.mode == "replace":
        plan.operations.append(Operation("amend", now, line.event.data, line.number))
    else:
        text = f"Event `{line.event.id}` counts with other data; `--mode replace` would amend it."
        plan.problems.append(Problem(line.number, "conflict", text))


def plan_revert(backfill: str, touched: Book) -> Plan:
    """What brings the events of a backfill back to what they were before it."""
    plan = Plan()
    for held in touched.values():
        own = [n for n, c in enumerate(held.corrections) if _is_of(c.event, backfill, "apply")]
        brought = held.first.event.backfill == backfill
        if not own and not brought:
            continue
        before = None if brought else held.after(held.corrections[: own[0]])
        after = held.after(held.corrections[: own[-1] + 1]) if own else held.first.event
        _take_back(plan, held, before, after, brought=brought)
    plan.sort()
    return plan


def _take_back(
    plan: Plan, held: Held, before: UsageEvent | None, after: UsageEvent | None, *, brought: bool
) -> None:
    now = held.now
    if is_same(now, before):
        return
    if not is_same(now, after) and not brought:
        last = held.corrections[-1].event
        said = f"{(last.data or {}).get('actor')}: {(last.data or {}).get('reason')}"
        text = (
            f"Event `{held.first.event.id}` was corrected since by `{last.id}` ({said}): revert that first."
        )
        plan.problems.append(Problem(0, "corrected_since", text))
    elif before is None:
        assert now is not None, "it differs from what was before"
        plan.operations.append(Operation("void", now))
    elif now is None:
        plan.operations.append(Operation("restore", held.first.event, before.data))
    else:
        plan.operations.append(Operation("amend", now, before.data))


def _is_of(correction: UsageEvent, backfill: str, step: str) -> bool:
    data = correction.data or {}
    return (data.get("backfill"), data.get("step")) == (backfill, step)
