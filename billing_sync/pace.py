"""How fast to ask: a rate that follows the provider's 429, pauses with jitter, a breaker for outages."""

import random
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from billing_sync.port import Halt, Limited, Rejected, Retry, Unknown

T = TypeVar("T")
Clock = Callable[[], float]
Sleep = Callable[[float], None]

START_SHARE = 0.6  # of the provider's limit: other programs of the account need room too
_SLOWEST = 0.5  # requests a second, after however many 429
_RECOVERY = 0.05  # of the full rate, a second
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_FAILURES, _FIRST_OPEN, _LONGEST_OPEN = 5, 30.0, 600.0
_WINDOW, _FEWEST = 30.0, 10  # seconds; and requests in them, before their share of failures says something


class Waiting(Exception):
    """Cannot go on now; the next round does."""


class Paused(Waiting):
    """The provider is not there: nothing is asked for a while."""


class Bucket:
    """Lets requests through at a rate: halved by a 429, back by 5 % of the full rate a second."""

    def __init__(self, limit: float, clock: Clock, sleep: Sleep) -> None:
        self.full = limit * START_SHARE
        self.rate = self.full
        self._clock, self._sleep = clock, sleep
        self._next = self._risen = clock()

    def take(self) -> None:
        """Wait for the next place."""
        now = self._clock()
        self.rate = min(self.full, self.rate + self.full * _RECOVERY * max(0.0, now - self._risen))
        self._risen = now
        place = max(now, self._next)
        self._next = place + 1 / self.rate
        if place > now:
            self._sleep(place - now)

    def slow(self) -> None:
        """The provider said 429."""
        self.rate = max(min(_SLOWEST, self.full), self.rate / 2)


class Breaker:
    """Stops asking after failures in a row, or when more than half of 30 seconds' requests fail.

    One probe after a time that doubles up to ten minutes.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._latest: deque[tuple[float, bool]] = deque()  # when, and whether it failed
        self._open_for = _FIRST_OPEN
        self.open_until = 0.0

    def check(self) -> None:
        """Refuse while it is open."""
        left = self.open_until - self._clock()
        if left > 0:
            raise Paused(f"the provider does not answer; asked again in {left:.0f} s")

    def failed(self) -> None:
        """No answer, or one that failed inside."""
        self._failures += 1
        self._note(is_failed=True)
        failed = sum(is_failed for _, is_failed in self._latest)
        if self._failures >= _FAILURES or (len(self._latest) >= _FEWEST and 2 * failed > len(self._latest)):
            self._latest.clear()
            self.open_until = self._clock() + self._open_for
            self._open_for = min(self._open_for * 2, _LONGEST_OPEN)
            self._failures = _FAILURES - 1  # the probe decides alone

    def worked(self) -> None:
        """The provider is there."""
        self._failures, self._open_for, self.open_until = 0, _FIRST_OPEN, 0.0
        self._note(is_failed=False)

    def _note(self, *, is_failed: bool) -> None:
        now = self._clock()
        self._latest.append((now, is_failed))
        while self._latest[0][0] < now - _WINDOW:
            self._latest.popleft()


class Pace:
    """Every request to one provider goes through here."""

    def __init__(
        self, limit: float, clock: Clock = time.time, sleep: Sleep = time.sleep, seed: int | None = None
    ) -> None:
        self.bucket = Bucket(limit, clock, sleep)
        self.breaker = Breaker(clock)
        self.requests = 0
        self._sleep = sleep
        self._chance = random.Random(seed)

    def ask(self, work: Callable[[], T]) -> T:
        """One request, at its time; failures are counted and passed on."""
        self.breaker.check()
        self.bucket.take()
        self.requests += 1
        try:
            done = work()
        except Limited:
            self.bucket.slow()
            raise
        except (Retry, Unknown):
            self.breaker.failed()
            raise
        except (Rejected, Halt):
            self.breaker.worked()
            raise
        self.breaker.worked()
        return done

    def rest(self, attempt: int) -> None:
        """Pause before the next attempt: full jitter, from a second to a minute."""
        self._sleep(self._chance.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)))
