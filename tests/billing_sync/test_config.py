"""The billing file: checked as a whole, every mistake named."""

from pathlib import Path

import pytest

from billing_sync.config import read_config
from metering.errors import UserError

WHOLE = """
provider: stripe
automatic_tax: true
create_customers: false
minimum: {USD: 50, ISK: 500}
park_alarm_days: 3
meter_events:
  - {price: input, event_name: input_tokens}
  - {price: output, event_name: output_tokens, customers: [acme]}
customers:
  acme: {account: cus_1, subscription: sub_1}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "billing.yaml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, WHOLE))
    assert config.rules_for("acme") == {"input": "input_tokens", "output": "output_tokens"}
    assert config.rules_for("zeta") == {"input": "input_tokens"}
    assert config.customers["acme"].subscription == "sub_1"


def test_an_empty_file_invoices_everything(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, "")).meter_events == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("provder: stripe", "provder"),
        ("provider: paypal", "provider"),
        ("meter_events: [{price: input}]", "event_name"),
        ("minimum: {ISK: 50}", "multiple of 100"),
        ("minimum: {UGX: 50}", "contradict"),
        ("a: [", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_config(write(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")
