"""`metering notify run`: look, keep, deliver; again and again until it is told to stop."""

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError

from metering.errors import UserError
from metering.notify.channels import Channels, NotTaken
from metering.notify.config import NotifyConfig
from metering.notify.happening import Happening
from metering.notify.outbox import Delivery, Outbox
from metering.notify.sources import happenings
from metering.settings import Settings
from metering.sinks.client import connect

log = structlog.get_logger()

_OVERLAP_SECONDS = 86_400  # what reached the books late, with an earlier time
Look = Callable[[int], list[Happening]]


class Round(NamedTuple):
    """What one round did."""

    new: int
    sent: int
    failed: int
    problem: str


class Notifier:
    """One deployment's notifications; `clock` is epoch seconds."""

    def __init__(
        self, config: NotifyConfig, channels: Channels, outbox: Outbox, look: Look, clock: Callable[[], int]
    ) -> None:
        self._config = config
        self._channels = channels
        self._outbox = outbox
        self._look = look
        self._clock = clock

    def round(self, *, from_start: bool = False) -> Round:
        """Look for what is new and send what is due.

        The first round of a new outbox only remembers what there is, unless `from_start`: nobody wants
        last year's alerts.
        """
        new, problem = 0, ""
        try:
            new = self._gather(from_start=from_start)
        except (UserError, ClickHouseError, OSError) as error:
            problem = str(error).splitlines()[0][:300]  # what is in the outbox goes out all the same
            log.warning("notify_sources_not_read", error=problem)
        sent, failed = self.deliver(self._outbox.due(self._clock()))
        return Round(new, sent, failed, problem)

    def _gather(self, *, from_start: bool) -> int:
        before, now = self._outbox.looked_at(), self._clock()
        found = self._look(max(0, before - _OVERLAP_SECONDS))
        skip = not before and not from_start
        new = self._outbox.keep(addressed(self._config, found), now, skip=skip, looked=True)
        return 0 if skip else new

    def deliver(self, deliveries: Iterable[Delivery]) -> tuple[int, int]:
        """Send some deliveries; how many were taken and how many were not."""
        sent = failed = 0
        for one in deliveries:
            try:
                self._channels.send(one, self._clock())
            except NotTaken as error:
                failed += 1
                state = self._outbox.failed(one, str(error), self._clock(), final=error.final)
                log.warning(
                    "notification_not_taken", id=one.event, target=one.target, state=state, error=str(error)
                )
            else:
                sent += 1
                self._outbox.sent(one)
        return sent, failed

    def run(self, every: float, stop: threading.Event, *, from_start: bool = False) -> None:
        """Rounds until `stop` is set."""
        while not stop.is_set():
            done = self.round(from_start=from_start)
            if done.new or done.sent or done.failed:
                log.info("notify_round", **done._asdict())
            stop.wait(every)


def addressed(config: NotifyConfig, found: Iterable[Happening]) -> list[tuple[Happening, str]]:
    """Each event with each target that wants it."""
    return [(one, target.id) for one in found for target in config.targets() if target.wants(one.kind)]


def books_look(settings: Settings) -> Look:
    """Read the sources, with a connection of each round's own."""

    def look(since: int) -> list[Happening]:
        with connect(settings.clickhouse(), settings.database) as client:
            return happenings(client, settings, since)

    return look
