"""What quotas cost: `python -m tests.bench.bench_quota`, or `make bench-quota`.

A client's check (one by one, and many at once), and the fold's post of one event, in CPU nanoseconds: the
best of the rounds. Memory. Then on the real stack, under a load: a reservation's round trip, and how long it
takes until a client knows of an event.
"""

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metering.quota.limits import ONE
from metering.quota.local import LocalView
from metering.quota.quotas import Quotas
from tests.bench.bench_quota_stack import Row, run
from tests.quota.world import START, catalog, quotas

CALLS = 100_000
ROUNDS = 7
KEYS = 10_000
PAGE = Path(__file__).parent.parent.parent / "docs" / "quotas.md"
BEGIN, END = "<!-- make bench-quota WRITE=1 -->", "<!-- end of bench-quota -->"
TOKENS = {"id": "l", "meter": "tokens", "units": 10**12, "window": "month"}
CALLS_MONEY = {"id": "m", "meter": "calls", "money": 10**9, "window": "month"}
POSTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("no limit", {}, "tokens"),
    ("one limit", {"limits": [TOKENS]}, "tokens"),
    ("two limits", {"limits": [TOKENS, {**TOKENS, "id": "day", "window": "day"}]}, "tokens"),
    ("a rolling hour", {"limits": [{**TOKENS, "window": "rolling 1h"}]}, "tokens"),
    ("money", {"limits": [CALLS_MONEY]}, "calls"),
)


def best(call: Callable[[], Any]) -> float:
    """CPU nanoseconds a call."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        found.append((time.process_time() - began) / CALLS * 1e9)
    return min(found)


def median_check(view: LocalView) -> float:
    """The median of single checks with the clock around each; the clock's own share is in it."""
    taken = []
    for number in range(CALLS):
        began = time.perf_counter_ns()
        view.check(f"c{number % 1_000}", "tokens", ONE, START)
        taken.append(time.perf_counter_ns() - began)
    return sorted(taken)[CALLS // 2]


def view_of(owner: Quotas) -> LocalView:
    view = LocalView()
    for key, value in [*owner.take(0).states, owner.heartbeat(START)]:
        view.apply(key, value, 0, START)
    view.is_ready = True
    return view


def costs() -> list[Row]:
    """What a check and a post cost."""
    names = [f"c{n}" for n in range(1_000)]
    found = catalog({"limits": [TOKENS, {**TOKENS, "id": "day", "window": "day"}]}, *names)
    view = view_of(quotas(found))
    wanted = [(f"c{n % 1_000}", "tokens", ONE) for n in range(CALLS)]
    many = best(lambda: view.check_many(wanted, START))
    return [
        ("check, two limits", f"{best(lambda: [view.check(*w, START) for w in wanted]):.0f} ns"),
        ("check, median with a look at the clock", f"{median_check(view):.0f} ns"),
        ("check in `check_many`", f"{many:.0f} ns: {1e9 / many:,.0f} a second and core"),
        *(_post(*case) for case in POSTS),
    ]


def _post(title: str, more: dict[str, Any], meter: str) -> Row:
    owner = quotas(catalog(more))

    def posts() -> None:
        for number in range(CALLS):
            owner.post("a", meter, (), START + number, ONE)

    return f"the fold's post of an event, {title}", f"{best(posts):.0f} ns"


def memory() -> list[Row]:
    """Bytes of a customer with one limit and usage in one window of it: in a client's view, and in a fold."""
    names = [f"customer-{n}" for n in range(KEYS)]
    found = catalog({"limits": [TOKENS]}, *names)
    tracemalloc.start()
    owner = Quotas(0, lambda _: True)
    owner.adopt(found)
    owner.advance(START)
    for name in names:
        owner.post(name, "tokens", (), START, ONE)
    records = [*owner.take(KEYS).states, owner.heartbeat(START)]
    fold = tracemalloc.get_traced_memory()[0] - sum(sys.getsizeof(part) for one in records for part in one)
    before = tracemalloc.get_traced_memory()[0]
    view = LocalView()
    for key, value in records:
        view.apply(key, value, 0, START)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return [
        ("memory a limit of a customer, client", f"{held // KEYS:,} bytes"),
        ("memory a limit of a customer, worker", f"{fold // KEYS:,} bytes"),
    ]


def main() -> int:
    """Print one table; with `--write` it replaces the block in docs/quotas.md."""
    parser = argparse.ArgumentParser(description="What quotas cost")
    parser.add_argument("--rate", type=int, default=50_000, help="events a second meanwhile, on the stack")
    parser.add_argument("--write", action="store_true", help="put the table into docs/quotas.md")
    chosen = parser.parse_args()
    on_the_stack = run(chosen.rate)
    rows = [*costs(), *memory(), *on_the_stack]
    text = "\n".join(["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)])
    print(text)  # noqa: T201 - its result
    if chosen.write:
        page = PAGE.read_text()
        start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        PAGE.write_text(f"{page[:start]}\n{text}\n{page[end:]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
