"""What quotad is asked and what it answers: JSON, the fields documented here and in `/openapi.json`.

Quantities are integers or decimal text, never JSON numbers with a point: those lose digits. A field
that is not known is an error, so that a misspelt one does not become its default.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=500)]
Quantity = (
    Annotated[int, Meta(description="Whole units.")]
    | Annotated[str, Meta(max_length=60, description="Decimal text, e.g. `12.5`; six decimals at most.")]
)
Requests = Annotated[
    int, Meta(ge=0, le=1_000_000_000, description="How many requests it is, for limits in requests.")
]
Dimensions = Annotated[
    dict[str, str], Meta(description="Values of the meter's dimensions, for limits with `where`.")
]
RequestId = Annotated[
    str,
    Meta(
        max_length=200, description="The same one again within ten minutes gets the same reply; empty: none."
    ),
]
Lease = Annotated[str, Meta(min_length=1, max_length=1_000, description="The lease of a reservation.")]

CheckReason = Literal[
    "ok",
    "warn",
    "over",
    "no_limit",
    "lease",
    "limit_reached",
    "denied",
    "reserved_by_others",
    "settling",
    "bad_quantity",
    "unknown_customer",
    "unknown_meter",
    "wrong_partition",
    "reuse_last",
    "stale",
    "no_data",
]
ReservationReason = Literal[
    "granted",
    "reduced",
    "no_limit",
    "committed",
    "more_than_reserved",
    "released",
    "limit_reached",
    "reserved_by_others",
    "settling",
    "bad_quantity",
    "unknown_customer",
    "unknown_meter",
    "unknown_lease",
    "lease_ended",
    "reordered",
    "wrong_partition",
    "no_data",
]


class CheckRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The question whether a customer may use so much now."""

    customer: Name
    meter: Name
    quantity: Quantity = 1
    requests: Requests = 1
    dimensions: Dimensions = {}


class CheckAnswer(msgspec.Struct, frozen=True):
    """Whether to serve, and why. Of `stale`, `no_data` and `reuse_last` nobody could be asked.

    `limit` decided. Usage that a `lease` covers is sent with it. Before `retry_after_ms` it stays as it is.
    """

    allowed: bool
    reason: CheckReason
    limit: str = ""
    lease: str = ""
    retry_after_ms: int = 0


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Many checks at once, each by itself."""

    checks: list[CheckRequest]


class BatchAnswer(msgspec.Struct, frozen=True):
    """The answers, in the order of the checks."""

    answers: list[CheckAnswer]


class ReserveRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold usage that is to come: all of it, or with `least` what is left but not less than that."""

    customer: Name
    meter: Name
    quantity: Quantity
    least: Quantity | None = None
    requests: Requests = 1
    validity_seconds: Annotated[int, Meta(ge=1, le=600)] = 30
    dimensions: Dimensions = {}
    request_id: RequestId = ""


class CommitRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Say what was used of a lease so far; with `done` the rest is free again. It counts nothing.

    `n` counts the commits of a lease from 1; `used` is cumulative.
    """

    customer: Name
    lease: Lease
    used: Quantity
    n: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1
    done: bool = True
    request_id: RequestId = ""


class ReleaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give back what a lease still holds."""

    customer: Name
    lease: Lease
    request_id: RequestId = ""


class ReservationAnswer(msgspec.Struct, frozen=True):
    """What was reserved, committed or released, or why not. `no_data`: the owner did not answer in time.

    `granted` (decimal text) and `requests` may be used until `expires` (epoch ms); without a `lease` no
    limit is in the way. `final`: nothing is left behind it.
    """

    ok: bool
    reason: ReservationReason
    lease: str = ""
    granted: str = "0"
    requests: int = 0
    expires: int = 0
    final: bool = False
    limit: str = ""
    retry_after_ms: int = 0


class Health(msgspec.Struct, frozen=True):
    """How the service is. `degraded`: it answers, from a view that is old; `dead`: start it again.

    `silent_ms` is how long the quietest partition was not heard of, null when one never was.
    """

    status: Literal["starting", "ready", "degraded", "dead"]
    detail: str = ""
    silent_ms: int | None = None


class Problem(msgspec.Struct, frozen=True):
    """What was wrong with a request. `code` is for programs, `message` says the place and what to do."""

    code: str
    message: str


class ProblemAnswer(msgspec.Struct, frozen=True):
    """The body of every answer that is no answer to the question."""

    error: Problem
