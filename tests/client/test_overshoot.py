"""Clients of every mode at one limit on the real stack: each within its published bound."""

import pytest
from rich.console import Console

from metering.settings import Settings
from tests.client.overshoot import LIMIT, LIMITED, measure, own, table
from tests.demo.world import running


@pytest.mark.parts
@pytest.mark.timeout(420)
@pytest.mark.slow
def test_the_overshoot_of_every_mode_stays_within_its_bound(deployment: Settings) -> None:
    settings = own(deployment)
    with running(settings, LIMITED):
        rows = measure(settings)
    Console().print(table(rows))
    assert [row.mode for row in rows if row.overshoot > row.bound] == []
    by_mode = {row.mode: row for row in rows}
    assert by_mode["cached"].served >= LIMIT
    assert by_mode["strict zone"].bound == by_mode["leases"].bound == 0
    assert all(row.served > LIMIT // 2 for row in rows)
