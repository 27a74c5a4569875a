"""Every model through the real pipeline: the audit in SQL agrees, and so does rating from a file."""

import json
import random
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from metering.audit import run_audit
from metering.catalog.load import load_texts
from metering.offline import rate_file
from metering.rating.money import format_micro
from metering.settings import Settings
from metering.sinks.audit_rows import COVERED_MODELS
from metering.sinks.client import connect
from tests.demo.world import running, send, wait_for
from tests.state.folding import HOUR, START

TEXT = (Path(__file__).parent.parent / "state" / "every_model.yaml").read_text()
PERIOD = "2023-11"
PAYING = {"a": b"a", "b": b"both", "c": b"both"}  # a pool's events are keyed by the pool


def events(count: int) -> list[tuple[bytes, bytes]]:
    chance = random.Random(7)
    found = []
    for number in range(count):
        if number % 2 == 0:  # pairs of one time and id, from two sources
            customer, time = chance.choice("abc"), START + chance.randrange(2 * HOUR, 60 * HOUR)
        body = {
            "id": f"e{number % (count - 20) // 2}",  # the last twenty come a second time
            "source": "z" if number % 2 else "",
            "customer": customer,
            "type": "use",
            "time": time,
            "data": {
                "n": str(Decimal(chance.randrange(40_000)) / 1000),
                "p": str(Decimal(chance.randrange(10**9)) / 10**7),
                "region": chance.choice(["eu", "us"]),
                "size": chance.choice("sl"),
                "user": chance.choice(["u1", "u2", "u3", "u4"]),
            },
        }
        found.append((PAYING[customer], json.dumps(body).encode()))
    return found


@pytest.mark.parts
@pytest.mark.timeout(180)
def test_the_audit_agrees_on_every_model(deployment: Settings) -> None:
    sent = events(240)
    # Fees that nothing uses depend on when the log begins: this is about usage.
    text = TEXT.replace(
        'discounts: [{id: launch, percent: "10"}, {id: gift, amount: "1"}], minimum: {amount: "60"}', ""
    )
    text = text.replace("          - {id: base", "          # - {id: base").replace(
        "          - {id: setup", "          # - {id: setup"
    )
    with running(deployment, text):
        for key in {key for key, _ in sent}:
            send(deployment, *(value for k, value in sent if k == key), key=key)
        wait_for(lambda books: books.counters().read == len(sent), deployment)
        offline = rate_file(load_texts({"c.yaml": text}), "u.jsonl", b"\n".join(v for _, v in sent), PERIOD)
        expected: Counter[tuple[str, str]] = Counter()
        for row in offline.rows[PERIOD]:
            expected[row.customer, row.price] += row.amount
        wanted = {place: format_micro(amount) for place, amount in expected.items()}
        wait_for(lambda _: charged(deployment) == wanted, deployment)
    with connect(deployment.clickhouse(), deployment.database) as client:
        audit = run_audit(client)
        models = client.query("SELECT groupUniqArray(model) FROM audit_covered_charges").result_rows[0][0]
    assert not audit.differences
    assert audit.charges > 100
    assert set(models) == COVERED_MODELS
    assert {u.model for u in audit.uncovered} >= {"dynamic", "increment", "capacity"}  # and it says so


def charged(settings: Settings) -> dict[tuple[str, str], str]:
    with connect(settings.clickhouse(), settings.database) as client:
        rows = client.query(
            "SELECT customer, price, sum(amount) FROM charges_current GROUP BY customer, price"
        )
        return {(c, p): f"{amount:.6f}" for c, p, amount in rows.result_rows}
