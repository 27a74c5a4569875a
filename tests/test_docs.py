"""What the documents say is what the code does."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from metering.catalog.load import load_texts
from metering.catalog.price_files import Model
from metering.quota.limits import Kind
from metering.quota.wire import ReplyReason
from metering.rating import charge, load_card
from metering.rating.usage import Aggregation
from metering.settings import Settings
from tests.quota.scenario import Run
from tests.quota.world import METERS

ROOT = Path(__file__).parent.parent


def test_every_setting_is_on_its_page() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`{field.validation_alias or 'METERING_' + name.upper()}`" in page
        assert (field.description or "") in page


def test_every_reason_for_refusal_is_on_its_page() -> None:
    page = (ROOT / "docs" / "wire-format.md").read_text()
    state = "measure meter_fold amending amendments hourly_table late"
    sources = ["events", *(f"state/{name}" for name in state.split()), "sinks/writer"]
    text = "".join((ROOT / "metering" / f"{source}.py").read_text() for source in sources)
    found = set(re.findall(r'(?:Refusal\(|refuse\(\s*event,)\s*"(\w+)"', text)) | {"sink_refused"}
    assert len(found) > 15
    assert not [reason for reason in found if f"`{reason}`" not in page]


def test_the_readmes_bill_is_the_one_the_demo_is_tested_for() -> None:
    demo = (ROOT / "tests" / "demo" / "test_demo.py").read_text()
    bill = re.search(r'BILL = "([\d.]+)"', demo)
    assert bill is not None
    assert bill[1] in (ROOT / "README.md").read_text()


RATING = (ROOT / "docs" / "rating.md").read_text()
PRICES = yaml.safe_load(re.search(r"```yaml\n(.*?)```", RATING, re.S)[1])  # type: ignore[index]


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=f"{n}-{c['price']['model']}") for n, c in enumerate(PRICES)]
)
def test_a_price_on_the_page_costs_what_the_page_says(case: dict[str, Any]) -> None:
    used = case["used"]
    if "matrix" in case["price"]:
        used = {tuple(cell.split(",")): quantity for cell, quantity in used.items()}
    assert charge(load_card(case["price"]), used) == Decimal(case["charge"])


def test_every_model_of_the_catalog_is_on_the_page() -> None:
    assert not [
        model for model in get_args(Model) if f"model: {model}" not in RATING and f"`{model}`" not in RATING
    ]


def test_every_aggregation_is_on_the_page() -> None:
    assert not [name for name in get_args(Aggregation) if f"`{name}`" not in RATING]


QUOTAS = (ROOT / "docs" / "quotas.md").read_text()
LIMITS, RULE = re.findall(r"```yaml\n(.*?)```", QUOTAS, re.S)


def test_the_limits_on_the_page_are_a_catalog() -> None:
    catalog = load_texts({"meters.yaml": METERS, "limits.yaml": LIMITS})
    kinds = {limit.kind for limit in catalog.limits_of("acme-de", 0)}
    assert kinds == set(get_args(Kind))
    assert [g.id for g in catalog.grants_of("harbour")] == ["launch"]


def test_the_scenario_on_the_page_ends_as_it_says() -> None:
    Run(yaml.safe_load(RULE)).run()


def test_every_answer_to_a_request_is_on_the_page_of_quotas() -> None:
    told = set(re.findall(r"`(\w+)`", QUOTAS)) | {"ok", "free", "granted", "reduced", "released"}
    assert not set(get_args(ReplyReason)) - told
