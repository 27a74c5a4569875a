"""The routes of quotad, in one table: the server is made from it, and the OpenAPI document."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from metering.quotad.models import (
    BatchAnswer,
    BatchRequest,
    CheckAnswer,
    CheckRequest,
    CommitRequest,
    Health,
    ReleaseRequest,
    ReservationAnswer,
    ReserveRequest,
)
from metering.quotad.service import Quotad


class Operation(NamedTuple):
    """A question: its path, its body, its answer."""

    name: str
    path: str
    summary: str
    asked: type[msgspec.Struct]
    answer: type[msgspec.Struct]
    call: Callable[[Quotad, Any], Awaitable[Any]]


class Page(NamedTuple):
    """What is read with GET, without a token: it holds no customer."""

    name: str
    path: str
    summary: str
    answer: type[msgspec.Struct] | None  # None: text, or this document itself


OPERATIONS = (
    Operation(
        "check",
        "/v1/check",
        "May this customer use so much now? A denial is an answer, with status 200.",
        CheckRequest,
        CheckAnswer,
        Quotad.check,
    ),
    Operation(
        "batch",
        "/v1/check/batch",
        "Many checks at once.",
        BatchRequest,
        BatchAnswer,
        Quotad.batch,
    ),
    Operation(
        "reserve",
        "/v1/reserve",
        "Hold usage that is to come.",
        ReserveRequest,
        ReservationAnswer,
        Quotad.reserve,
    ),
    Operation(
        "commit",
        "/v1/commit",
        "Say what was used of a lease so far.",
        CommitRequest,
        ReservationAnswer,
        Quotad.commit,
    ),
    Operation(
        "release",
        "/v1/release",
        "Give back what a lease still holds.",
        ReleaseRequest,
        ReservationAnswer,
        Quotad.release,
    ),
)
PAGES = (
    Page("live", "/health/live", "200 while it works, also while it starts; 503 when it is dead.", Health),
    Page(
        "ready", "/health/ready", "200 when it answers (ready, degraded); 503 before and when dead.", Health
    ),
    Page("metrics", "/metrics", "Metrics as Prometheus reads them.", None),
    Page("openapi", "/openapi.json", "This document.", None),
)
