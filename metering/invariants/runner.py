"""One round: every invariant checked, and what may only be under way checked again when it has arrived."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from metering.errors import UserError
from metering.invariants.arrival import arrival
from metering.invariants.base import Broken, Invariant
from metering.invariants.facts import Facts
from metering.invariants.seen import Seen
from metering.settings import Settings

PATIENCE_SECONDS = 30.0


@dataclass
class Finding:
    """What one invariant came to; `unknown` says why it could not be decided."""

    invariant: Invariant
    rows: list[Broken] = field(default_factory=list)
    unknown: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether it was decided and nothing breaks it."""
        return not self.rows and not self.unknown


class Watch:
    """Checks the invariants of a live deployment, round by round."""

    def __init__(
        self,
        settings: Settings,
        invariants: Sequence[Invariant],
        *,
        newest_periods: int = 0,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._settings = settings
        self._invariants = invariants
        self._newest_periods = newest_periods
        self._patience = patience
        self._seen = Seen(settings.home / "watch" / f"{settings.topic('')}seen.json")

    def round(self) -> list[Finding]:
        """Check everything once."""
        facts = self._look()
        try:
            findings = [_check(invariant, facts) for invariant in self._invariants]
            self._remember(facts)
        finally:
            facts.close()
        doubtful = [finding for finding in findings if finding.rows and finding.invariant.travels]
        if doubtful:
            self._check_again(doubtful)
        return findings

    def _look(self) -> Facts:
        return Facts(self._settings, self._seen, self._newest_periods)

    def _check_again(self, doubtful: list[Finding]) -> None:
        """Keep only rows that are still the same when everything that was under way has arrived."""
        missing = self._wait()
        facts = self._look()
        try:
            for finding in doubtful:
                again = _check(finding.invariant, facts)
                finding.seconds += again.seconds
                finding.unknown = again.unknown
                finding.rows = [row for row in finding.rows if row in again.rows]
                if finding.rows and missing:
                    finding.rows, finding.unknown = [], f"cannot be told yet: {missing}"
        finally:
            facts.close()

    def _wait(self) -> str:
        try:
            return asyncio.run(arrival(self._settings, self._patience))
        except Exception as error:  # the checks that follow say what is wrong
            return str(error)

    def _remember(self, facts: Facts) -> None:
        with suppress(UserError):  # Kafka is away: nothing was seen
            for partition, report in facts.progress.items():
                self._seen.note(report.epoch, partition, report.offset, report.watermark, facts.now)
            self._seen.save()


def _check(invariant: Invariant, facts: Facts) -> Finding:
    finding, began = Finding(invariant), time.monotonic()
    try:
        finding.rows = invariant.check(facts)
    except Exception as error:  # a check that cannot be made is a finding, not the end of the watch
        finding.unknown = (str(error) or repr(error)).splitlines()[0][:300]
    finding.seconds = time.monotonic() - began
    return finding
