"""`python -m tests.chaos.run --events 1000000 --seed 1 --minutes 6`: chaos on the real parts."""

import argparse
import asyncio
import logging
import sys
import threading
import traceback
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from metering.console import console
from tests.chaos import faults
from tests.chaos.billing import Billing
from tests.chaos.catalog import FIRST, SECOND
from tests.chaos.compare import Verdict, compare
from tests.chaos.load import Injected, Load
from tests.chaos.model import Model
from tests.chaos.sending import Sender
from tests.chaos.world import World, remove, world

_LATEST_CATALOG = 0.45  # of the load: the first month closes at about half of it
_DOWN_SHARE, _DOWN_SECONDS = 0.25, 90.0
_BOOKS_SECONDS = 420.0
_AFTER_CLOSE = 400
_LAST_ROUNDS = 20


class Outcome(NamedTuple):
    """What came of one fault: done, skipped, or not done."""

    fault: faults.Fault
    state: str
    detail: str


class Chaos:
    """The plan's thread: one fault after the other, ClickHouse's beside them."""

    def __init__(self, world: World, plan: list[faults.Fault], seconds: float, sender: Sender) -> None:
        self.outcomes: list[Outcome] = []
        self._world, self._plan, self._seconds, self._sender = world, plan, seconds, sender
        self._beside: list[threading.Thread] = []
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def begin(self) -> None:
        """Begin with the plan."""
        self._thread.start()

    def give_up(self) -> None:
        """Begin nothing more."""
        self._given_up.set()

    def end(self) -> None:
        """Wait until everything on the plan was done."""
        for thread in [self._thread, *self._beside]:
            thread.join()

    def _work(self) -> None:
        for fault in self._plan:
            if self._given_up.wait(max(0.0, fault.at * self._seconds - self._world.seconds)):
                return
            if fault.target == "clickhouse":
                thread = threading.Thread(target=self._do, args=(fault,), daemon=True)
                self._beside.append(thread)
                thread.start()
            else:
                self._do(fault)

    def _do(self, fault: faults.Fault) -> None:
        try:
            if fault.name.startswith("catalog"):
                assert self._sender.share < _LATEST_CATALOG, "too late: the first month is about to close"
            outcome = Outcome(fault, "done", fault.work(self._world, fault.target))
        except faults.Skipped as reason:
            outcome = Outcome(fault, "skipped", str(reason))
        except Exception as error:
            outcome = Outcome(fault, "failed", f"{error!r} {traceback.format_exc().splitlines()[-3]}")
        self.outcomes.append(outcome)
        self._world.tell(f"[yellow]{fault.name}[/] ({fault.target}): {outcome.state}, {outcome.detail}")


def main() -> int:
    """Run, compare, print the table; the exit code is 0 when every figure is zero."""
    parser = argparse.ArgumentParser(description="Chaos on the real parts")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=6.0, help="how long the load lasts")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    chosen = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers are away on purpose
    code = 1
    with world(console.print, chosen.events) as made:
        console.print(
            f"seed {chosen.seed}, {chosen.events:,} events in {chosen.minutes:g} min; {made.home}\n"
        )
        code = _run(made, chosen.events, chosen.seed, chosen.minutes * 60)
    if code == 0 and not chosen.keep:
        remove(made.home)
    else:
        console.print(f"logs and state: {made.home}")
    return code


def _run(made: World, events: int, seed: int, seconds: float) -> int:
    load, model = Load(events, seed), Model()
    sender, billing = Sender(made, model), Billing(made, seed)
    down = min(_DOWN_SECONDS, seconds * _DOWN_SHARE)
    chaos = Chaos(made, faults.plan(seed, down), seconds, sender)
    made.begin_clock()
    billing.begin()
    chaos.begin()
    try:
        asyncio.run(sender.pace(load.records(), seconds))
        made.tell(f"{sender.records:,} records sent; the plan goes on to its end")
    except BaseException:
        chaos.give_up()
        raise
    finally:
        chaos.end()
    asyncio.run(_finish(sender, load))
    billing.end()
    for _ in range(3):
        billing.hurt()
    _bill_all(made, billing)
    in_kafka = asyncio.run(sender.in_kafka())
    verdict = compare(made, model, in_kafka, sender.records)
    _show(made, verdict, chaos.outcomes, billing, load.made, model)
    done = all(outcome.state != "failed" for outcome in chaos.outcomes)
    return 0 if verdict.is_clean and done else 1


async def _finish(sender: Sender, load: Load) -> None:
    """Late usage when the first month is closed, then the end of the second."""
    await sender.wait_for_books(FIRST, _BOOKS_SECONDS)
    sender.world.tell("the first month is closed; now usage of it that comes too late")
    await sender.pace(load.beyond_the_close(_AFTER_CLOSE), 0)
    await sender.close_months()
    await sender.wait_for_books(SECOND, _BOOKS_SECONDS)


def _bill_all(made: World, billing: Billing) -> None:
    """Rounds until nothing is left to do."""
    for _ in range(_LAST_ROUNDS):
        billing.round()
        with_fake = made.settings.home / "run" / "billing.log"
        if "Nothing was to do" in with_fake.read_text()[-400:]:
            return
    made.tell("[red]billing is never done[/]")


def _show(
    made: World, verdict: Verdict, outcomes: list[Outcome], billing: Billing, load: Injected, model: Model
) -> None:
    table = Table("Figure", "Model", "Books", "Differ", title="What the model says, what the books say")
    for line in verdict.lines:
        mark = "red" if line.differ else "green"
        table.add_row(line.title, line.model, line.books, f"[{mark}]{line.differ:,}[/]")
    console.print(table)
    for line in verdict.lines:
        for example in line.examples if line.differ else ():
            console.print("  ", line.title, Text(example))
    restarts = ", ".join(f"{name} {count}" for name, count in sorted(made.fleet.restarts.items()))
    console.print(f"started again: {restarts or 'nothing'}")
    console.print(
        f"billing: {billing.rounds} rounds, {billing.killed} killed, {billing.dropped} answers to be lost;"
        f" load: {load.copies:,} copies, {load.late:,} late, {load.conflicts:,} conflicts,"
        f" {load.malformed:,} malformed, {load.envelopes:,} envelopes\n"
    )
    done = sum(outcome.state == "done" for outcome in outcomes)
    result = Table("Faults injected", "Events", "Lost", "Counted twice", "Charges wrong", "Thresholds wrong")
    figures = (verdict.lost, verdict.twice, verdict.charges_wrong, verdict.thresholds_wrong)
    cells = (f"[{'red' if n else 'green'}]{n:,}[/]" for n in figures)
    result.add_row(f"{done + billing.killed} of {len(outcomes) + billing.killed}", f"{model.read:,}", *cells)
    console.print(result)


if __name__ == "__main__":
    sys.exit(main())
