"""What the kernel says of a process, what this machine is, and a fixed loop that tells how fast it is now."""

import json
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from metering.local import kafka

_TICKS = os.sysconf("SC_CLK_TCK")
_PACKAGES = ("faust-streaming", "aiokafka", "rocksdict", "msgspec", "numpy", "chdb", "confluent-kafka")


class Usage(NamedTuple):
    """CPU seconds of a process with all its threads, its memory and its peak (MiB), and when.

    `own` leaves mapped files out: the system takes those pages back when it needs them.
    """

    cpu: float
    rss: float
    peak: float
    at: float
    own: float


def usage_of(pid: int) -> Usage:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    sizes = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    # A process that has just ended has no memory any more.
    rss, peak, own = (int(sizes.get(n, "0").split()[0]) / 1024 for n in ("VmRSS", "VmHWM", "RssAnon"))
    return Usage(cpu, rss, peak, time.time(), own)


def calibrate() -> float:
    """CPU seconds of a fixed loop, about a third of one: text, dictionaries, integers, as a fold has them."""
    bodies = [json.dumps({"id": f"e{n}", "n": n, "region": "eu" if n & 1 else "us"}) for n in range(500)]
    began = time.process_time()
    for _ in range(100):
        totals: dict[tuple[str, int], int] = {}
        for body in bodies:
            event = json.loads(body)
            place = (event["region"], event["n"] % 50)
            totals[place] = totals.get(place, 0) + event["n"] * 1_000_000
    return time.process_time() - began


def describe() -> dict[str, str]:
    """Hardware and versions."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": f"{os.cpu_count()} × {model}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "broker": kafka.NAME,
        "java": _java(),
        "commit": _commit(),
        "load average before": f"{os.getloadavg()[0]:.1f}",
        **{name: version(name) for name in _PACKAGES},
    }


def _java() -> str:
    java = kafka.find_java()
    if java is None:
        return "none"
    run = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    return run.stderr.splitlines()[0]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=Path(__file__).parent)
    except OSError:
        return "unknown"
    return run.stdout.strip() or "unknown"
