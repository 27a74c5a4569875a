"""The OpenAPI document says what the server does."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from metering.quota.wire import ReplyReason
from metering.quotad import models
from metering.quotad.link import Link
from metering.quotad.models import CheckReason, Health, ProblemAnswer, ReservationReason
from metering.quotad.openapi import PROBLEMS, document
from metering.quotad.operations import OPERATIONS
from metering.quotad.server import Server
from metering.quotad.settings import QuotadSettings
from tests.quotad.test_server import unconnected

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = document()
PAGE = (ROOT / "docs" / "quotad.md").read_text()


def schema(reference: dict[str, str]) -> Any:
    return DOCUMENT["components"]["schemas"][reference["$ref"].rpartition("/")[2]]


def test_its_paths_are_the_routes() -> None:
    app = Server(QuotadSettings(), Link(unconnected, 10)).app()
    routes = {(r.method.lower(), r.resource.canonical) for r in app.router.routes() if r.resource}
    assert {(m, path) for path, methods in DOCUMENT["paths"].items() for m in methods} == routes


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: one.name)
def test_its_bodies_are_the_models(one: Any) -> None:
    told = DOCUMENT["paths"][one.path]["post"]
    asked = schema(told["requestBody"]["content"]["application/json"]["schema"])
    answer = schema(told["responses"]["200"]["content"]["application/json"]["schema"])
    for model, found in ((one.asked, asked), (one.answer, answer)):
        fields = msgspec.structs.fields(model)
        assert list(found["properties"]) == [field.name for field in fields]
        assert found["required"] == [field.name for field in fields if field.required]
    assert asked["additionalProperties"] is False


def test_every_reference_leads_somewhere() -> None:
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert names == set(DOCUMENT["components"]["schemas"])
    assert {Health.__name__, ProblemAnswer.__name__} <= names


def test_every_code_of_an_error_is_documented() -> None:
    source = (ROOT / "metering" / "quotad" / "server.py").read_text()
    codes = set(re.findall(r'Refused\(\d+, "(\w+)"', source)) | {"body_too_large", "internal"}
    assert len(codes) > 5
    assert not [code for code in codes if f"`{code}`" not in " ".join(PROBLEMS.values())]
    assert not [code for code in codes | {"not_found", "method_not_allowed"} if f"`{code}`" not in PAGE]


def test_every_reply_of_the_owner_is_an_answer() -> None:
    assert set(get_args(ReplyReason)) - {"ok", "free"} <= set(get_args(ReservationReason))
    denials = {
        "limit_reached",
        "reserved_by_others",
        "settling",
        "bad_quantity",
        "wrong_partition",
        "no_limit",
    }
    assert denials | {"unknown_customer", "unknown_meter"} <= set(get_args(CheckReason))


def test_every_answer_of_a_client_is_one_of_quotads() -> None:
    source = (ROOT / "metering" / "quota" / "local.py").read_text()
    said = set(re.findall(r'Answer\((?:"allow"|"deny"|gate\.card\.when_stale), "(\w+)"', source))
    source = (ROOT / "metering" / "client" / "quotas.py").read_text()
    said |= set(re.findall(r'Decision\([^,(]+, "(\w+)"', source))
    assert {"reuse_last", "stale", "no_data"} <= said
    assert len(said) > 5
    assert said <= set(get_args(CheckReason))


def test_every_reason_and_setting_is_on_its_page() -> None:
    reasons = {*get_args(CheckReason), *get_args(ReservationReason)}
    assert not [reason for reason in reasons if f"`{reason}`" not in PAGE]
    for name, field in QuotadSettings.model_fields.items():
        assert f"`METERING_QUOTAD_{name.upper()}`" in PAGE
        assert (field.description or "nothing") in PAGE


def test_every_model_is_described() -> None:
    made = [m for m in vars(models).values() if isinstance(m, type) and issubclass(m, msgspec.Struct)]
    assert len(made) > 8
    assert not [m.__name__ for m in made if not m.__doc__]
