"""Applying corrections of single events to the totals of a partition."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import NamedTuple

import msgspec

from metering.catalog.resolved import Catalog
from metering.events import Refusal, UsageEvent
from metering.state.amendments import Amendment, measures_of
from metering.state.calendar import hour_of
from metering.state.dedupe import DAY_MS, HORIZON_DAYS, SeenIds, content_of, digest_of, identity_of
from metering.state.fold import Entry
from metering.state.hourly_table import HourlyTable
from metering.state.measure import Measure, refuse
from metering.state.totals import DIGESTS, Total

Post = Callable[[UsageEvent, Sequence[Measure], int], None]  # to quotas, before the totals; 1 or -1

AMENDED = b"amended:"  # in front of an identity; totals have JSON arrays as keys


class _Amended(NamedTuple):
    content: int | None  # None: voided
    day: int  # of the correction's append time


class Amending:
    """What was amended or voided within the horizon, and how it changes the totals."""

    def __init__(self, table: HourlyTable, seen: SeenIds, post: Post | None = None) -> None:
        self._post = post
        self._table = table
        self._seen = seen
        self._amended: dict[bytes, _Amended] = {}
        self._amended_now: set[bytes] = set()

    def apply(self, event: UsageEvent, found: Amendment, catalog: Catalog, appended: int) -> Refusal | None:
        """Correct the totals of the original; all of them, or none when it is refused."""
        refusal = self._unfounded(event, found) or self._correct(event, found, catalog)
        if refusal is None:
            self._remember(found, appended)
        return refusal

    def _unfounded(self, event: UsageEvent, found: Amendment) -> Refusal | None:
        """Whether the original is not what was counted."""
        original = identity_of(found.original)
        content = self._seen.content(original)
        if content is None:
            content = self._seen.among([original]).get(original)
        if content is None:
            text = f"No event `{found.original.id}` was accepted within {HORIZON_DAYS} days."
            return refuse(event, "unknown_event", text)
        before = self._amended.get(original)
        is_voided = before is not None and before.content is None
        if is_voided and not found.restores:
            return refuse(event, "already_voided", f"Event `{found.original.id}` was voided before.")
        if found.restores and not is_voided:
            return refuse(event, "not_voided", f"Event `{found.original.id}` counts: nothing to restore.")
        if content_of(found.original) != (content if before is None or is_voided else before.content):
            text = f"`data.event` differs from what counts for `{found.original.id}`: send it as it is now."
            return refuse(event, "bad_correction", text)
        return None

    def _correct(self, event: UsageEvent, found: Amendment, catalog: Catalog) -> Refusal | None:
        counted = None if found.restores else found.original
        old, new = (measures_of(e, catalog) for e in (counted, found.instead))
        for measures in (old, new):
            if isinstance(measures, Refusal):
                return refuse(event, "bad_correction", measures.detail)
        assert not isinstance(old, Refusal)
        assert not isinstance(new, Refusal)
        refusal = self._table.uncountable(event, new, hour_of(found.original.at))
        taken = self._without(event, found, old) if refusal is None else refusal
        if isinstance(taken, Refusal):
            return taken
        digest = digest_of(identity_of(found.original))
        if self._post is not None:
            self._post(found.original, old, -1)
        for one, total in zip(old, taken, strict=True):
            total.digest = (total.digest - digest) % DIGESTS
            self._table.put(found.original, one, total)
        if found.instead is not None:
            if self._post is not None:
                self._post(found.instead, new, 1)
            self._table.add(found.instead, new, digest, late=False)
        return None

    def _without(self, event: UsageEvent, found: Amendment, old: Sequence[Measure]) -> list[Total] | Refusal:
        """The totals of the original without it; all of them, or none is touched."""
        taken = []
        for one in old:
            total = deepcopy(self._table.total(found.original, one))
            if total is None:
                text = f"Meter `{one.meter.id}` did not count this event; it is newer."
                return refuse(event, "bad_correction", text)
            restated = found.restated.get((one.meter.id, one.dimensions))
            if restated is not None:
                if not total.restate(restated):
                    text = f"The total of `{one.meter.id}` has changed since; correct again."
                    return refuse(event, "outdated_correction", text)
            elif not total.take_back(one, found.original):
                text = f"A {total.kind} cannot tell what is left without it: use `metering events`."
                return refuse(event, "not_invertible", text)
            taken.append(total)
        return taken

    def _remember(self, found: Amendment, appended: int) -> None:
        original = identity_of(found.original)
        content = None if found.instead is None else content_of(found.instead)
        self._amended[original] = _Amended(content, appended // DAY_MS)
        self._amended_now.add(original)

    def take(self, upto: int) -> list[Entry]:
        """Entries of amended events: new ones, and those whose id is beyond the horizon."""
        gone = [i for i, a in self._amended.items() if a.day < self._seen.expired_before]
        for identity in gone:
            del self._amended[identity]
        kept = sorted(self._amended_now - set(gone))
        self._amended_now = set()
        entries = [Entry(AMENDED + i, msgspec.msgpack.encode(self._amended[i]), upto) for i in kept]
        return entries + [Entry(AMENDED + i, None, upto) for i in sorted(gone)]

    def restore(self, place: bytes, value: bytes) -> bool:
        """Take back an entry; False when it is not one of these."""
        if not place.startswith(AMENDED):
            return False
        self._amended[place.removeprefix(AMENDED)] = msgspec.msgpack.decode(value, type=_Amended)
        return True
