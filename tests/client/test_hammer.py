"""Ten processes hammer a hard limit with reservations while a worker is killed: it is never exceeded."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal

import pytest

from metering.demo.pipeline import Pipeline
from metering.quota.wire import QuotaEvent, QuotaState, decode_event, decode_state
from metering.settings import Settings
from metering.topics import Names
from tests.demo.world import running
from tests.state.folding import CATALOG
from tests.topics import records

LIMIT = 2_000
CLIENTS, SECONDS = 10, 40
LIMITED = CATALOG.replace(
    "plans: [{id: plan, name: Plan, rate_card: card}]",
    "plans: [{id: plan, name: Plan, rate_card: card,"
    f" limits: [{{id: l, meter: tokens, units: {LIMIT}, window: month}}]}}]",
)


def hammer(settings: Settings) -> "subprocess.Popen[str]":
    place = [settings.brokers(), settings.topic_prefix, str(SECONDS)]
    command = [sys.executable, "-m", "tests.client.hammer", *place]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_a_worker(pipeline: Pipeline) -> None:
    os.kill(pipeline.pids()["worker-1"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while "worker-1" in pipeline.pids() and time.monotonic() < deadline:
        time.sleep(0.1)
    pipeline.watch()


@pytest.mark.parts
@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_hard_limit_is_never_exceeded_by_ten_clients_while_a_worker_is_killed(deployment: Settings) -> None:
    own = deployment.model_copy(update={"partitions": 2, "quota_lag_ms": 200})
    with running(own, LIMITED) as pipeline:
        clients = [hammer(own) for _ in range(CLIENTS)]
        for _ in range(2):
            time.sleep(14)
            kill_a_worker(pipeline)
        said = [client.communicate(timeout=120) for client in clients]
        assert not [errors for client, (_, errors) in zip(clients, said, strict=True) if client.returncode]
        results = [json.loads(out) for out, _ in said]
        states, events = asyncio.run(_published(own))
    used = sum(Decimal(found["used"]) for found in results)
    assert 0 < used <= LIMIT  # how near they come in the time is the machine's
    posted = [int(s.posted) + int(s.reserved) for s in states if s.account == "a"]
    assert posted
    assert max(posted) <= LIMIT * 1_000_000
    assert not [e for e in events if e.event == "overrun"]
    fired = {e.id: (e.percent, e.scope) for e in events if e.event == "threshold"}
    reached = [percent for percent in (50, 80, 100) if used * 100 >= LIMIT * percent]
    assert sorted(fired.values()) == [(percent, "a") for percent in reached]  # each once, through all kills
    trips = sorted(trip for found in results for trip in found["trips"])
    print(  # noqa: T201 - measured on the way
        f"{used} of {LIMIT} used; {len(trips)} reservations; median {trips[len(trips) // 2]} us,"
        f" 99 %: {trips[len(trips) * 99 // 100]} us; thresholds {len(fired)}"
    )


async def _published(settings: Settings) -> tuple[list[QuotaState], list[QuotaEvent]]:
    names = Names(settings)
    states = [decode_state(r.value) for r in await records(settings, names.quota_state) if r.value]
    events = [decode_event(r.value) for r in await records(settings, names.quota_events) if r.value]
    return [state for state in states if isinstance(state, QuotaState)], events
