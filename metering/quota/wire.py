"""The records of `quota.state`, `quota.events`, `quota.checks` and `quota.replies`.

Amounts are integers of 10^-6 (unit, currency or request) as decimal text; an empty text is "no
bound". Times are epoch ms. A reader ignores fields that it does not know, and answers by policy when
`v` is above its own `FORMAT`. Versions order by (epoch, sequence); the highest is in force.
"""

from typing import Literal

import msgspec

from metering.quota.limits import Answer, Counts, Kind
from metering.quota.windows import WindowKind
from metering.records import key

FORMAT = 1
SEQUENCE_BITS = 96

Standing = Literal["ok", "warn", "over", "blocked"]
EventKind = Literal[
    "threshold",
    "blocked",
    "unblocked",
    "limit_changed",
    "overrun",
    "lease_expired",
    "grant_added",
    "grant_revoked",
    "grant_expired",
    "refused",
]


def version(epoch: int, sequence: int) -> int:
    """The version of a quota record: a 128-bit integer."""
    assert 0 <= epoch < 1 << 32
    assert 0 <= sequence < 1 << SEQUENCE_BITS
    return epoch << SEQUENCE_BITS | sequence


class QuotaState(msgspec.Struct, tag="state", tag_field="kind", frozen=True, omit_defaults=True):
    """How one limit stands in one window (`quota.state`).

    `scope` is the customer, or the pool that shares the limit. `amount` includes grants. `remaining`
    is what is left of what may be admitted; `room` is the same in what a caller counts: units, or
    requests for a limit in requests. `as_of` maps partitions of `usage.events` to the offset up to
    which events are in it. `rate` is room a second; below `strict_below` of room a caller reserves.
    `at` is the append time that it was computed at.
    """

    account: str
    scope: str
    meter: str
    limit: str
    limit_version: str
    counts: Counts
    limit_kind: Kind
    window_start: int
    window_end: int
    amount: str
    posted: str
    reserved: str
    remaining: str
    room: str
    state: Standing
    as_of: dict[str, int]
    at: int
    version: str
    rate: str = "0"
    lag_ms: int = 0
    strict_below: str = "0"
    lease_hint: str = "0"
    reason: str = ""
    v: int = FORMAT


class LimitCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """A limit as a client needs it, also for a window that has no state yet.

    `amount` includes the grants that are open; empty is unlimited.
    """

    id: str
    version: str
    scope: str
    meter: str
    counts: Counts
    kind: Kind
    amount: str
    window: WindowKind
    zone: str = "UTC"
    anchor: int = 1
    length_ms: int = 0
    where: dict[str, list[str]] = {}
    when_stale: Answer = "deny"
    reuse_ms: int = 60_000
    grace_percent: int = 0


class QuotaProfile(msgspec.Struct, tag="profile", tag_field="kind", frozen=True, omit_defaults=True):
    """All limits that apply to one customer, its own and its pool's (`quota.state`).

    A record without limits says that nothing is limited any more.
    """

    customer: str
    account: str
    limits: list[LimitCard]
    version: str
    v: int = FORMAT


class QuotaProgress(msgspec.Struct, tag="progress", tag_field="kind", frozen=True, omit_defaults=True):
    """The heartbeat of one partition (`quota.state`): "quiet" and "dead" look different.

    All states before it in the partition include events up to `offset`. `at` is the append time that
    the fold has reached. `emitted` is the sender's clock, or, while the fold is behind the log, how far
    it has come. `lag_ms` is the age that strict zones are made for.
    """

    partition: int
    offset: int
    at: int
    emitted: int
    version: str
    lag_ms: int = 1_000
    v: int = FORMAT


class QuotaEvent(msgspec.Struct, tag="quota_event", tag_field="kind", frozen=True, omit_defaults=True):
    """Something that happened to a quota (`quota.events`); `id` is the same on every replay."""

    id: str
    event: EventKind
    account: str
    scope: str
    limit: str
    at: int
    version: str
    meter: str = ""
    limit_version: str = ""
    window_start: int = 0
    posted: str = ""
    amount: str = ""
    percent: int = 0
    subject: str = ""  # of what: a lease, a grant
    quantity: str = ""
    actor: str = ""
    reason: str = ""
    detail: str = ""
    v: int = FORMAT


class Check(msgspec.Struct, tag="check", tag_field="kind", frozen=True, omit_defaults=True):
    """May this customer use so much now? A pure read."""

    request: str
    client: str
    customer: str
    meter: str
    quantity: str
    requests: int = 1
    dimensions: dict[str, str] = {}


class Unseen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client has sent, is sending or keeps to send, and no state that it read includes.

    `until` is the offset in `usage.events` behind the last of it, -1 while some has no offset yet.
    """

    units: str = "0"
    requests: int = 0
    until: int = 0


class Reserve(msgspec.Struct, tag="reserve", tag_field="kind", frozen=True, omit_defaults=True):
    """Hold `quantity` for this client, at least `least` of it; `whole` is all or nothing.

    An owner that has not come to the end of what is `unseen` leaves room for it.
    """

    request: str
    client: str
    customer: str
    meter: str
    quantity: str
    least: str = ""
    whole: bool = False
    requests: int = 1
    validity_ms: int = 30_000
    dimensions: dict[str, str] = {}
    unseen: Unseen | None = None


class Commit(msgspec.Struct, tag="commit", tag_field="kind", frozen=True, omit_defaults=True):
    """`used` of the lease so far, cumulative; `n` counts the commits of a lease from 1.

    Metering is the only counter: a commit posts nothing. With `done` what was not used is free again.
    """

    request: str
    client: str
    customer: str
    lease: str
    n: int
    used: str
    done: bool = False


class Release(msgspec.Struct, tag="release", tag_field="kind", frozen=True, omit_defaults=True):
    """Give back what the lease still holds."""

    request: str
    client: str
    customer: str
    lease: str


Request = Check | Reserve | Commit | Release

ReplyReason = Literal[
    "ok",
    "free",
    "no_limit",
    "granted",
    "reduced",
    "committed",
    "more_than_reserved",
    "released",
    "limit_reached",
    "reserved_by_others",
    "settling",
    "wrong_partition",
    "unknown_customer",
    "unknown_meter",
    "unknown_lease",
    "lease_ended",
    "reordered",
    "bad_quantity",
]


class Reply(msgspec.Struct, tag="reply", tag_field="kind", frozen=True, omit_defaults=True):
    """The answer to one request (`quota.replies`, keyed by client); the same for a repeated one.

    A lease may be used until `expires` (append time, epoch ms). `final` says that nothing is left
    behind it. `limit` is the limit that decided.
    """

    request: str
    client: str
    ok: bool
    reason: ReplyReason
    version: str
    lease: str = ""
    granted: str = ""
    requests: int = 0
    expires: int = 0
    final: bool = False
    limit: str = ""
    retry_after_ms: int = 0
    v: int = FORMAT


class GrantFact(msgspec.Struct, tag="grant", tag_field="kind", frozen=True, omit_defaults=True):
    """A grant that was given, or with `revoked` taken back, at run time: absolute, the last one counts.

    `scope` is a customer or a pool; `ends` 0 is open.
    """

    id: str
    scope: str
    limit: str
    amount: str
    starts: int
    ends: int = 0
    revoked: bool = False
    actor: str = ""
    reason: str = ""


class LimitFact(msgspec.Struct, tag="limit", tag_field="kind", frozen=True, omit_defaults=True):
    """The amount of a limit of one customer or pool, set at run time; empty is unlimited.

    With `cleared` the catalog's amount is in force again.
    """

    scope: str
    limit: str
    amount: str
    cleared: bool = False
    actor: str = ""
    reason: str = ""


Fact = GrantFact | LimitFact
StateRecord = QuotaState | QuotaProfile | QuotaProgress

encode = msgspec.json.Encoder().encode
decode_state = msgspec.json.Decoder(StateRecord).decode
decode_request = msgspec.json.Decoder(Request).decode
decode_reply = msgspec.json.Decoder(Reply).decode
decode_fact = msgspec.json.Decoder(Fact).decode
decode_event = msgspec.json.Decoder(QuotaEvent).decode


def state_key(account: str, scope: str, limit: str, window_start: int) -> bytes:
    """The key of a state: with the window, so that a reset is a new key."""
    return key("state", account, scope, limit, window_start)


def profile_key(account: str, customer: str) -> bytes:
    """The key of a customer's limits."""
    return key("profile", account, customer)


def progress_key(partition: int) -> bytes:
    """The key of a partition's heartbeat."""
    return key("progress", partition)
