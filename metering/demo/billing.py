"""The demo's billing: `billing-sync` as a process of its own, started again when it dies.

The demo starts afresh each time, and its own fake with it. A Stripe test account, or a fake that
somebody else runs, keeps its invoices: the ledger that knows them is kept, too.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from billing_sync.run import RunResult, is_fake, standing
from billing_sync.stripe_fake.server import running
from metering.demo.pipeline import environment
from metering.errors import UserError
from metering.settings import Settings

PID_FILE = "billing-1.pid"
FAKE_STATE = "stripe_fake.sqlite3"
KEPT = "demo-ledgers"
# A test account knows nobody of the demo and no address: customers are made, tax is left out.
_BILLING = "create_customers: true\nautomatic_tax: false\n"
_COMMAND = [sys.executable, "-c", "from billing_sync.cli import main; main()", "run", "--once"]
_MOST_STARTS = 50
_ROUND_SECONDS = 300.0


def with_billing(own: Settings, kept_in: Path) -> Settings:
    """The demo's settings with a ledger and a billing file of its own, whatever the deployment has."""
    folder = own.home / "billing"
    if _outlives_the_demo():
        base = os.environ.get("STRIPE_API_BASE", "")
        name = hashlib.sha256(base.encode()).hexdigest()[:12] if base else "stripe"
        folder = kept_in / KEPT / name
    ledger = f"sqlite:///{(folder / 'ledger.sqlite3').resolve()}"
    return own.model_copy(update={"ledger_url": ledger, "billing_file": own.home / "billing.yaml"})


def write_billing_file(settings: Settings) -> None:
    """Say how the demo bills."""
    assert settings.billing_file is not None, "with_billing says which"
    settings.billing_file.write_text(_BILLING)


def _outlives_the_demo() -> bool:
    """Whether invoices stay at the provider when the demo's folder is removed."""
    return not is_fake() or bool(os.environ.get("STRIPE_API_BASE"))


def sync(settings: Settings, period: str, tell: Callable[[str], None]) -> RunResult:
    """Bill a period at Stripe or the fake; killed at any moment, each cent is billed once."""
    write_billing_file(settings)
    if _outlives_the_demo():
        tell(f"what was billed before stays billed: {settings.ledger_url} is kept from start to start")
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
    if _outlives_the_demo():
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
