"""What quotas cost: `python -m tests.bench.bench_quota`.

A client's check (one by one, and many at once), and the fold's post of one event: for a customer without
limits, with one limit, with a pool and a limit in money. Prints CPU nanoseconds; the best of the rounds.
"""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from metering.quota.limits import ONE
from metering.quota.local import LocalView
from metering.quota.quotas import Quotas
from tests.quota.world import START, catalog, quotas

CALLS = 100_000
ROUNDS = 7
TOKENS = {"id": "l", "meter": "tokens", "units": 10**12, "window": "month"}
CALLS_MONEY = {"id": "m", "meter": "calls", "money": 10**9, "window": "month"}


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


def main() -> int:
    """Run it and print one table."""
    names = [f"c{n}" for n in range(1_000)]
    found = catalog({"limits": [TOKENS, {**TOKENS, "id": "day", "window": "day"}]}, *names)
    view = view_of(quotas(found))
    wanted = [(f"c{n % 1_000}", "tokens", ONE) for n in range(CALLS)]
    table = Table("what", "ns")
    table.add_row("check, two limits", f"{best(lambda: [view.check(*w, START) for w in wanted]):.0f}")
    table.add_row("check, median with a clock", f"{median_check(view):.0f}")
    table.add_row("check_many, a check", f"{best(lambda: view.check_many(wanted, START)):.0f}")
    for title, more, meter in (
        ("post, no limit", {}, "tokens"),
        ("post, one limit", {"limits": [TOKENS]}, "tokens"),
        ("post, two limits", {"limits": [TOKENS, {**TOKENS, "id": "day", "window": "day"}]}, "tokens"),
        ("post, rolling hour", {"limits": [{**TOKENS, "window": "rolling 1h"}]}, "tokens"),
        ("post, money", {"limits": [CALLS_MONEY]}, "calls"),
    ):
        owner = quotas(catalog(more))

        def posts(owner: Quotas = owner, meter: str = meter) -> None:
            for number in range(CALLS):
                owner.post("a", meter, (), START + number, ONE)

        table.add_row(title, f"{best(posts):.0f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
