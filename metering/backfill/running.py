"""Preview, apply and revert of a backfill: what a command does, without the terminal."""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from metering.backfill.archive import Archive
from metering.backfill.books import Ledger, Part, parts_of, touched_by
from metering.backfill.events import Stamp, Step
from metering.backfill.preparing import Prepared, Preparing
from metering.backfill.request import Problem, Request
from metering.backfill.sending import catch_up, send
from metering.catalog.resolved import Catalog
from metering.errors import UserError
from metering.settings import Settings
from metering.sinks.client import LONG_ANSWER_SECONDS, connect


class Outcome(NamedTuple):
    """What was made ready, what stands against it, and what was sent (None: nothing was to be)."""

    stamp: Stamp
    prepared: list[Prepared]
    problems: list[Problem]
    sent: int | None
    missing: int = 0


def run_request(settings: Settings, request: Request, *, yes: bool) -> Outcome:
    """Preview a backfill, and send it when that is wanted and nothing stands against it."""
    with _patient(settings) as client:
        catch_up(client, settings)
        parts = parts_of(client, request.backfill)
        _refuse_other(request, parts)
        stamp = _stamp(request.backfill, "apply", request.actor, request.reason, parts)
        if parts and all(part.is_complete for part in parts):
            raise UserError(
                f"backfill `{request.backfill}` was applied at {instant(parts[0].made)} by {parts[0].actor}",
                hint="nothing is left to send; to do it anew, give it another --id",
            )
        if request.problems:
            return Outcome(stamp, [], request.problems, None)
        prepared = _preparing(client, settings, stamp).apply(request, stamp)
        return _finish(client, settings, stamp, prepared, parts, yes=yes)


def run_revert(settings: Settings, backfill: str, actor: str, reason: str, *, yes: bool) -> Outcome:
    """Preview the revert of a backfill, and send it when that is wanted."""
    with _patient(settings) as client:
        catch_up(client, settings)
        parts = parts_of(client, backfill)
        applied = [part for part in parts if part.step == "apply"]
        begun = [part for part in parts if part.step == "revert"]
        if not applied:
            raise UserError(f"no backfill `{backfill}` is in the books", hint="see `metering backfill list`")
        if begun and all(part.is_complete for part in begun):
            raise _reverted(begun[0])
        stamp = _stamp(backfill, "revert", actor, reason, begun)
        touched = touched_by(client, backfill)
        prepared = _preparing(client, settings, stamp).revert(applied, touched, stamp)
        return _finish(client, settings, stamp, prepared, begun, yes=yes)


def _finish(
    client: Any,
    settings: Settings,
    stamp: Stamp,
    prepared: list[Prepared],
    begun: Iterable[Part],
    *,
    yes: bool,
) -> Outcome:
    problems = sorted(problem for one in prepared for problem in one.plan.problems)
    if problems or not yes:
        return Outcome(stamp, prepared, problems, None)
    sent = send(settings, prepared, {part.customer for part in begun})
    catch_up(client, settings)
    parts = [part for part in parts_of(client, stamp.backfill) if part.step == stamp.step]
    return Outcome(stamp, prepared, [], sent, sum(part.announced - part.arrived for part in parts))


def _preparing(client: Any, settings: Settings, stamp: Stamp) -> Preparing:
    from metering.whatif import catalog_in_force  # pandas takes a second to import

    catalog: Catalog = catalog_in_force(client)
    ledger = Ledger(client, settings, max(stamp.made_at, _now()))
    return Preparing(Archive(client), ledger, settings, catalog)


def _refuse_other(request: Request, parts: Iterable[Part]) -> None:
    for part in parts:
        if part.step == "revert":
            raise _reverted(part)
        same = (part.mode, part.digest) == (request.mode, request.digest)
        if not same or json.loads(part.scope) != request.scope.plain():
            raise UserError(
                f"`{part.backfill}` is another backfill: {part.mode} of {part.file} by {part.actor}",
                hint="give this one another --id",
            )


def _reverted(part: Part) -> UserError:
    return UserError(
        f"backfill `{part.backfill}` was reverted at {instant(part.made)} by {part.actor}: {part.reason}",
        hint="to bring it back, apply its file again with another --id",
    )


def _stamp(backfill: str, step: Step, actor: str, reason: str, begun: list[Part]) -> Stamp:
    """A step that was begun goes on under its own name: equal records are duplicates."""
    if begun:
        first = begun[0]
        return Stamp(backfill, step, first.actor, first.reason, first.made)
    return Stamp(backfill, step, actor, reason, _now())


def instant(at: int) -> str:
    """An instant (epoch ms) as people write it."""
    return f"{datetime.fromtimestamp(at // 1_000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _now() -> int:
    return time.time_ns() // 1_000_000


def _patient(settings: Settings) -> Any:
    return connect(settings.clickhouse(), settings.database, answer_seconds=LONG_ANSWER_SECONDS)
