"""CPU of the meter fold on recorded batches: `python -m tests.bench.bench_fold --events 200000`.

Seeded batches of several shapes go through a fresh fold, with its changes taken three times, as columns
and event by event, beside a fixed loop in the same process: the ratios are what can be compared between
runs, because noise moves all of them.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from rich.console import Console
from rich.table import Table

from metering import event_rows
from metering.catalog.load import load_texts
from metering.catalog.resolved import Catalog
from metering.state.fold import Chunk
from metering.state.meter_fold import MeterFold
from metering.state.meter_rules import MeterRules

CHUNK = 5_000  # events of a Kafka record batch
CHECKPOINTS = 3
START = 1_767_571_200_000  # 2026-01-05T00:00:00Z
HOUR_MS = 3_600_000
METERS = """
  - {id: units, event_type: use, aggregation: sum, value: n, dimensions: [region], scale: 3}
"""
MORE_METERS = """
  - {id: calls, event_type: use, aggregation: count}
  - {id: peak, event_type: use, aggregation: max, value: n, scale: 3}
  - {id: users, event_type: use, aggregation: unique, value: region}
"""
encode = msgspec.json.encode


def catalog_of(customers: int, meters: str = METERS) -> Catalog:
    """A catalog of some customers and meters, without prices worth mentioning."""
    names = "".join(
        f"  - {{id: customer-{n:06d}, name: C, plan: plan, currency: USD, start: 2023-01-01T00:00:00Z}}\n"
        for n in range(customers)
    )
    text = (
        f"meters:{meters}rate_cards:\n  - id: card\n    currency: USD\n    versions:\n"
        "      - {from: 2023-01-01T00:00:00Z, prices: [{id: p, meter: units, model: unit, unit_price: '1'}],"
        f" not_charged: {['calls', 'peak', 'users'] if meters != METERS else []}}}\n"
        "plans: [{id: plan, name: Plan, rate_card: card}]\n"
        f"customers:\n{names}"
    )
    return load_texts({"catalog.yaml": text})


def values_of(count: int, customers: int, change: Callable[[dict[str, Any], int], object]) -> list[bytes]:
    """Events in the order of their times over four hours, each changed by its shape."""
    chance = random.Random(1)
    names = chance.choices(range(customers), weights=[1 / (n + 3) for n in range(customers)], k=count)
    made = []
    for number, name in enumerate(names):
        n = chance.randrange(1, 1_000)
        event = {
            "id": f"e{number:024x}",
            "customer": f"customer-{name:06d}",
            "source": "gateway",
            "type": "use",
            "time": START + 4 * HOUR_MS * number // count,
            "data": {"n": n, "region": ("eu", "us")[n & 1]},
        }
        made.append(encode(change(event, number)))
    return made


def plain(event: dict[str, Any], _: int) -> object:
    """Numbers and epoch milliseconds."""
    return event


def text(event: dict[str, Any], number: int) -> object:
    """CloudEvents with RFC 3339 times and decimal strings."""
    at = datetime.fromtimestamp(event["time"] / 1_000, UTC)
    event["time"] = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{event['time'] % 1_000:03d}Z"
    event["data"]["n"] = f"{number % 97}.{number % 8 * 125:03d}"
    return {"specversion": "1.0", "subject": event.pop("customer"), **event}


def disturbed(event: dict[str, Any], number: int) -> object:
    """One of a hundred is malformed, five of a hundred are copies."""
    if number % 100 == 7:
        event["data"]["n"] = -1
    if number % 20 == 3:
        event["id"], event["time"] = "copy", START
    return event


def loop() -> float:
    """CPU seconds of a fixed loop: what the machine is worth at the moment."""
    began = time.process_time()
    total: dict[int, int] = {}
    for number in range(300_000):
        total[number % 1_000] = total.get(number % 1_000, 0) + number
    return time.process_time() - began


def fold_all(values: list[bytes], catalog: Catalog, memory_ids: int, *, columns: bool = True) -> float:
    """CPU seconds of folding values in chunks, with checkpoints."""
    smallest = 1 if columns else 1 << 60
    with tempfile.TemporaryDirectory() as folder, patch.object(event_rows, "SMALLEST_BYTES", smallest):
        rules = MeterRules(0, 1, "events", "hourly", "rejected")
        fold = MeterFold(rules, ids_folder=Path(folder), memory_ids=memory_ids)
        chunks = list(chunks_of(values))
        every = max(1, len(chunks) // CHECKPOINTS)
        began = time.process_time()
        for number, chunk in enumerate(chunks, 1):
            fold.fold([chunk], catalog)
            if number % every == 0:
                fold.changes()
                fold.spill()
        used = time.process_time() - began
        assert fold.counters.read == len(values)
        return used


def chunks_of(values: list[bytes]) -> Iterator[Chunk]:
    """Kafka record batches."""
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        yield Chunk(start, start + len(part), range(start, start + len(part)), part, START + 10 * HOUR_MS)


def main() -> int:
    """Run it and print one table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--customers", type=int, default=1_000)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--memory-ids", type=int, default=1_000_000)
    options.add_argument("--only", default="", help="one of the shapes")
    chosen = options.parse_args()
    shapes = [("plain", plain, METERS), ("text", text, METERS), ("disturbed", disturbed, METERS)]
    shapes.append(("four meters", plain, METERS + MORE_METERS))
    names = ("Shape", "µs CPU an event", "event by event", "ratio", "columns / loop")
    table = Table(*names, title=f"{chosen.events:,} events a fold, best of {chosen.repeat}")
    for name, change, meters in [shape for shape in shapes if chosen.only in ("", shape[0])]:
        values = values_of(chosen.events, chosen.customers, change)
        catalog = catalog_of(chosen.customers, meters)
        runs = []
        for _ in range(chosen.repeat):
            singly = fold_all(values, catalog, chosen.memory_ids, columns=False)
            runs.append((fold_all(values, catalog, chosen.memory_ids), singly, loop()))
        together, singly, fixed = (min(column) / chosen.events * 1e6 for column in zip(*runs, strict=True))
        row = (f"{together:.2f}", f"{singly:.2f}", f"{singly / together:.1f}", f"{together / fixed:.2f}")
        table.add_row(name, *row)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
