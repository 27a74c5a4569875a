"""How fast the provider is asked, and when it is left alone."""

from collections.abc import Callable

import pytest

from billing_sync.pace import START_SHARE, Bucket, Pace, Paused
from billing_sync.port import Limited, Rejected, Retry


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def t() -> Time:
    return Time()


def fail(error: Exception) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


def test_requests_keep_below_the_limit(t: Time) -> None:
    bucket = Bucket(100, t.clock, t.sleep)
    for _ in range(601):
        bucket.take()
    assert t.slept == pytest.approx(600 / (100 * START_SHARE))


def test_a_429_halves_the_rate_and_it_comes_back(t: Time) -> None:
    pace = Pace(100, t.clock, t.sleep)
    with pytest.raises(Limited):
        pace.ask(fail(Limited("429")))
    assert pace.bucket.rate == 30
    t.now += 10
    pace.ask(lambda: None)
    assert pace.bucket.rate == pytest.approx(60)


def test_the_rate_never_falls_to_nothing(t: Time) -> None:
    bucket = Bucket(100, t.clock, t.sleep)
    for _ in range(50):
        bucket.slow()
    assert bucket.rate == 0.5


def open_breaker(pace: Pace) -> None:
    for _ in range(5):
        with pytest.raises(Retry):
            pace.ask(fail(Retry("no answer")))


def test_after_five_failures_nothing_is_asked(t: Time) -> None:
    pace = Pace(100, t.clock, t.sleep)
    open_breaker(pace)
    asked = pace.requests
    with pytest.raises(Paused, match="asked again in"):
        pace.ask(lambda: None)
    assert pace.requests == asked


def flaky(pace: Pace, t: Time, seconds: float) -> None:
    """Four in a row fail, then one works, one after the other."""
    for number in range(12):
        t.now += seconds
        if number % 5 == 4:
            pace.ask(lambda: None)
        else:
            with pytest.raises(Retry):
                pace.ask(fail(Retry("no answer")))


def test_when_more_than_half_fails_nothing_is_asked(t: Time) -> None:
    pace = Pace(100, t.clock, t.sleep)
    with pytest.raises(Paused):
        flaky(pace, t, 1)
    assert pace.requests == 11  # the tenth one worked


def test_failures_that_lie_far_apart_are_no_outage(t: Time) -> None:
    flaky(Pace(100, t.clock, t.sleep), t, 5)


def test_one_probe_closes_it_or_doubles_the_time(t: Time) -> None:
    pace = Pace(100, t.clock, t.sleep)
    open_breaker(pace)
    t.now += 30
    with pytest.raises(Retry):
        pace.ask(fail(Retry("no answer")))
    t.now += 59
    with pytest.raises(Paused):
        pace.ask(lambda: None)
    t.now += 1
    assert pace.ask(lambda: "here") == "here"
    assert pace.ask(lambda: "still") == "still"


def test_a_refusal_is_an_answer(t: Time) -> None:
    pace = Pace(100, t.clock, t.sleep)
    for _ in range(20):
        with pytest.raises(Rejected):
            pace.ask(fail(Rejected("no such customer")))


def test_pauses_have_full_jitter_up_to_a_minute(t: Time) -> None:
    pauses = []
    pace = Pace(100, t.clock, pauses.append, seed=1)
    for attempt in range(200):
        pace.rest(attempt % 20)
    assert 0 <= min(pauses) < 1
    assert 50 < max(pauses) <= 60
