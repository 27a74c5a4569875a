"""What a person asks for: a file of usage events, how they stand to what is there, who and why."""

import re
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Literal, NamedTuple

import msgspec

from metering.errors import UserError
from metering.events import Refusal, UsageEvent, decode_values
from metering.state.amendments import RESERVED
from metering.state.dedupe import content_of

Mode = Literal["add", "replace"]
Identity = tuple[str, str, str]  # customer, source, id

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ANY_TIME = 1 << 62


class Problem(NamedTuple):
    """Why an event cannot count: the line of the file, or 0 for an event of the archive."""

    line: int
    reason: str
    detail: str


class Line(NamedTuple):
    """An event of the file, its bytes as they are, and its line."""

    number: int
    event: UsageEvent
    raw: bytes


class Scope(NamedTuple):
    """Which events a backfill is about: empty sets and a source of None take any; times are epoch ms."""

    customers: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    source: str | None = None
    starts: int = 0
    ends: int = _ANY_TIME

    def has(self, event: UsageEvent) -> bool:
        """Whether an event is in it."""
        return (
            (not self.customers or event.customer in self.customers)
            and (not self.types or event.type in self.types)
            and self.source in (None, event.source)
            and self.starts <= event.at < self.ends
        )

    def plain(self) -> dict[str, object]:
        """The scope as JSON values: what is not limited is not there."""
        found = {"customers": sorted(self.customers), "types": sorted(self.types)}
        limits: dict[str, object] = {name: names for name, names in found.items() if names}
        if self.source is not None:
            limits["source"] = self.source
        return limits | ({"from": self.starts, "to": self.ends} if self.ends < _ANY_TIME else {})


@dataclass(frozen=True)
class Request:
    """A backfill as it was asked for; `problems` are lines that no pipeline could count."""

    backfill: str
    mode: Mode
    scope: Scope
    file: str
    digest: str
    actor: str
    reason: str
    lines: list[Line]
    problems: list[Problem] = field(default_factory=list)
    duplicates: int = 0


def read_request(
    name: str, raw: bytes, mode: Mode, scope: Scope, actor: str, reason: str, backfill: str = ""
) -> Request:
    """Read a file of JSON lines; without an id, equal requests get an equal one."""
    lines, problems, duplicates = _lines(raw)
    if mode == "replace":
        scope = _limited(scope, lines)
    for line in lines:
        if not scope.has(line.event):
            text = "The event is outside of the customers, types, source or times of this backfill."
            problems.append(Problem(line.number, "out_of_range", text))
    digest = sha256(raw).hexdigest()
    backfill = backfill or _id_of(mode, scope, digest)
    if not _ID.fullmatch(backfill):
        raise UserError(f"`{backfill}` cannot be the id of a backfill", hint="up to 64 of A-Z a-z 0-9 . _ -")
    return Request(
        backfill, mode, scope, name, digest, actor, reason, lines, sorted(problems), duplicates=duplicates
    )


def _id_of(mode: Mode, scope: Scope, digest: str) -> str:
    said = msgspec.json.encode([mode, scope.plain(), digest], order="deterministic")
    return f"bf-{blake2b(said, digest_size=6).hexdigest()}"


def _limited(scope: Scope, lines: list[Line]) -> Scope:
    """What a replacement takes away must be said, or follow from the file."""
    if not scope.starts or scope.ends == _ANY_TIME or scope.starts >= scope.ends:
        raise UserError("a replacement needs a range of time", hint="give --from and, behind it, --to")
    customers = scope.customers or frozenset(line.event.customer for line in lines)
    types = scope.types or frozenset(line.event.type for line in lines)
    if not customers or not types:
        raise UserError(
            "the file names no customer and type whose events are replaced", hint="give --customer and --type"
        )
    return scope._replace(customers=customers, types=types)


def _lines(raw: bytes) -> tuple[list[Line], list[Problem], int]:
    """The events of a file, each identity once."""
    values = [(number, line.strip()) for number, line in enumerate(raw.splitlines(), 1) if line.strip()]
    found: dict[Identity, Line] = {}
    problems: list[Problem] = []
    duplicates = 0
    for item in decode_values([value for _, value in values]):
        number = values[item.value][0]
        problem = _problem(number, item.event)
        if problem is not None:
            problems.append(problem)
            continue
        assert isinstance(item.event, UsageEvent), "a refusal is a problem"
        line = Line(number, item.event, item.raw.strip())
        first = found.setdefault(identity(item.event), line)
        if first is not line and content_of(first.event) != content_of(line.event):
            text = f"`{item.event.id}` stands in line {first.number} with another type, time or data."
            problems.append(Problem(number, "conflict", text))
        duplicates += first is not line
    return list(found.values()), problems, duplicates


def _problem(number: int, event: UsageEvent | Refusal) -> Problem | None:
    if isinstance(event, Refusal):
        return Problem(number, event.reason, event.detail)
    if event.type.startswith(RESERVED):
        return Problem(number, "reserved_type", f"`{event.type}` is no usage; see `metering correct`.")
    if event.backfill:
        return Problem(number, "reserved_field", "`backfill` is set by this command; leave it out.")
    return None


def identity(event: UsageEvent) -> Identity:
    """What makes two records the same event."""
    return event.customer, event.source, event.id
