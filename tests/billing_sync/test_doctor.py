"""The doctor: rights to read and to write, without writing; the clock; meters; what is missing is named."""

import pytest

from billing_sync.config import BillingConfig, MeterRule
from billing_sync.doctor import Check, examine
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from tests.billing_sync.office import Office

CONFIG = BillingConfig(credit_notes=True, meter_events=(MeterRule(price="metered", event_name="metered"),))


@pytest.fixture
def o() -> Office:
    office = Office(CONFIG)
    office.make_meter()
    return office


def look(o: Office, ahead: int = 0) -> list[Check]:
    return examine(StripeProvider(FAKE_KEY, fake=o.fake), CONFIG, o.now + ahead)


def wrong(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if not check.is_ok}


def test_a_deployment_that_is_in_order_has_nothing_wrong_and_nothing_is_written(o: Office) -> None:
    before = {kind: o.objects(kind) for kind in ("customer", "invoice", "line_item", "credit_note")}
    checks = look(o)
    assert wrong(checks) == set()
    assert {c.name for c in checks if c.name.startswith("write")} == {
        "write customers",
        "write invoices",
        "write invoice lines",
        "write credit notes",
        "write meter events",
    }
    assert before == {kind: o.objects(kind) for kind in before}
    assert o.objects("meter_event") == []


@pytest.mark.parametrize(
    ("resource", "names"),
    [
        ("customers", {"write customers"}),
        ("invoices", {"write invoices", "write invoice lines"}),
        ("credit_notes", {"write credit notes"}),
        ("meter_events", {"write meter events"}),
    ],
)
def test_a_right_that_is_missing_is_named(o: Office, resource: str, names: set[str]) -> None:
    o.fake.read_only = {resource}
    assert wrong(look(o)) == names


def test_a_revoked_key_fails_every_check_that_asks(o: Office) -> None:
    o.fake.revoked[FAKE_KEY] = 401
    assert {"read customers", "write invoices", "clock"} <= wrong(look(o))


@pytest.mark.parametrize("off", [-3_600, 3_600])
def test_a_clock_an_hour_off_is_told(o: Office, off: int) -> None:
    (clock,) = [check for check in look(o, off) if check.name == "clock"]
    assert not clock.is_ok
    assert f"{off:+d} s off" in clock.text
