"""The demo's billing: `billing-sync` as a process of its own, started again when it dies."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from billing_sync.run import RunResult, is_fake, standing
from billing_sync.stripe_fake.server import running
from metering.demo.pipeline import environment
from metering.errors import UserError
from metering.settings import Settings

PID_FILE = "billing-1.pid"
FAKE_STATE = "stripe_fake.sqlite3"
_COMMAND = [sys.executable, "-c", "from billing_sync.cli import main; main()", "run", "--once"]
_MOST_STARTS = 50
_ROUND_SECONDS = 300.0


def sync(settings: Settings, period: str, tell: Callable[[str], None]) -> RunResult:
    """Bill a period at Stripe or the fake; killed at any moment, each cent is billed once."""
    with _provider(settings) as environ:
        for _ in range(_MOST_STARTS):
            code = _round(settings, period, environ)
            if code >= 0:
                return _settled(settings, period)
            tell(f"[yellow]billing-1 died (signal {-code}); starting it again[/]")
    raise UserError(
        f"billing-sync died {_MOST_STARTS} times", hint=f"read the logs in {settings.home / 'run'}"
    )


def _settled(settings: Settings, period: str) -> RunResult:
    result = standing(settings, period)
    if not result.is_settled:
        open_ones = [f"{i.customer}: {i.state} {i.reason}" for i in result.invoices if i.state != "finalized"]
        waits = [f"{customer}: {reason}" for customer, _, reason in result.waiting]
        raise UserError(
            f"not everything is billed: {'; '.join([*waits, *open_ones])[:300]}",
            hint=f"read {settings.home / 'run' / 'billing-1.log'}",
        )
    return result


@contextmanager
def _provider(settings: Settings) -> Iterator[dict[str, str]]:
    """The fake outlives the process that bills, as Stripe would; with a key or an address there is none."""
    if not is_fake() or os.environ.get("STRIPE_API_BASE"):
        yield {}
        return
    with running(settings.home / "billing" / FAKE_STATE) as (base, _):
        yield {"STRIPE_API_BASE": base}


def _round(settings: Settings, period: str, environ: dict[str, str]) -> int:
    folder = settings.home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "billing-1.log").open("ab") as log:
        process = subprocess.Popen(
            [*_COMMAND, "--period", period],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment(settings), **environ},
        )
        (folder / PID_FILE).write_text(str(process.pid))
        try:
            return process.wait(_ROUND_SECONDS)
        finally:
            process.kill()
            process.wait()
            (folder / PID_FILE).unlink(missing_ok=True)
