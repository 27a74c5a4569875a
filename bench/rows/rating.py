"""Rating without Kafka: the kernels side by side, and a month rated again end to end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.machine import calibrate
from bench.options import Options
from bench.place import World
from bench.results import Found
from metering.errors import UserError
from metering.local import parts
from metering.settings import Settings

_SECONDS = 900
_CUSTOMERS = 20  # events for each customer of the month


def rating(world: World, options: Options) -> Iterator[Found]:
    """Rows a second of the kernels, then the seconds of a what-if over a month of customer-meters."""
    before = calibrate()
    rows = _run(world, "bench_rating")["rows"]
    for row in rows:
        nanoseconds = row["ns_per_row_best"]
        yield Found(
            f"rating: {row['name']}",
            row["rows_per_second"],
            1.0,
            nanoseconds / 1_000,
            before=before,
            after=before,
            parts={"times_decimal": row["times_decimal"]},
        )
    customers = str(options.events // _CUSTOMERS)
    found = _run(world, "bench_whatif", "--customers", customers)
    yield Found(
        f"what-if: a month of {found['customer_meters']:,} customer-meters",
        found["rows"],
        found["what-if"],
        found["what-if"] / found["rows"] * 1e6,
        before=before,
        after=calibrate(),
    )


def _run(world: World, module: str, *options: str) -> Any:
    file = world.home / f"{module}.json"
    command = [sys.executable, "-m", f"tests.bench.{module}", *options, "--json", str(file)]
    home = world.home / module
    environment = {**os.environ, "METERING_HOME": str(home), "KAFKA_BROKERS": world.brokers}
    root = Path(__file__).parents[2]
    log = world.home / f"{module}.log"
    try:
        with log.open("wb") as out:
            done = subprocess.run(
                command, stdout=out, stderr=out, timeout=_SECONDS, cwd=root, env=environment
            )
    finally:
        parts.down(Settings(home=home))  # it leaves its ClickHouse running
    if done.returncode:
        raise UserError(f"{module} failed:\n{log.read_text()[-500:]}", hint=f"python -m tests.bench.{module}")
    return json.loads(file.read_text())
