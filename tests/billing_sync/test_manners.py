"""How the provider is treated, R7 to R9: no complaint in any scenario, and one as soon as a rule is away."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import stripe

from billing_sync import pace as pacing
from billing_sync.accounts import Accounts
from billing_sync.pace import START_SHARE, Breaker, Bucket, Pace
from billing_sync.port import Rejected
from billing_sync.providers import stripe_errors
from billing_sync.providers.stripe import FAKE_KEY, StripeProvider
from billing_sync.round import Round
from billing_sync.stripe_fake.client import FakeClient
from billing_sync.stripe_fake.faults import Fault
from metering.errors import UserError
from tests.billing_sync.office import Office
from tests.billing_sync.world import closed

LIMIT = 50.0  # requests a second
MINUTE, OUTAGE = 60, 3_600
MOST_PROBES = 20  # of an hour: after 30, 60, 120, 240, 480 seconds, then every ten minutes, and four before


class Watched(Office):
    """An office under a clock that sleeping moves, which writes down when each request came."""

    def __init__(self, customers: int) -> None:
        super().__init__()
        self.time = float(self.now)
        self.books = [closed(f"c{n:02d}") for n in range(customers)]
        self.pace = Pace(LIMIT, lambda: self.time, self.sleep, seed=1)
        self.seen: list[float] = []
        self.hurt: Callable[[float], Fault | None] = lambda _: None
        self.fake.clock = lambda: self.time
        self.fake.faults.decide = self.look

    def look(self, _method: str, _path: str) -> Fault | None:
        self.seen.append(self.time)
        return self.hurt(self.time)

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def round(self) -> None:
        provider = StripeProvider(FAKE_KEY, fake=self.fake)
        Round(
            self,
            self.ledger,
            provider,
            config=self.billing(),
            clock=lambda: int(self.time),
            sleep=self.sleep,
            pace=self.pace,
        ).run()

    def totals(self) -> list[int]:
        return [i["total"] for i in self.objects("invoice") if i["status"] == "open"]

    def between(self, start: float, end: float) -> int:
        return sum(start <= at < end for at in self.seen)


def share() -> list[str]:
    """A part of the limit is used, other programs of the account have the rest."""
    o = Watched(20)
    o.round()
    busiest = max(Counter(int(at) for at in o.seen).values())
    return [f"{busiest} requests in a second"] if busiest > LIMIT * START_SHARE + 1 else []


def too_fast() -> list[str]:
    """A 429 makes us slower for a while."""
    o = Watched(40)
    told: list[float] = []

    def once(at: float) -> Fault | None:
        if told or len(o.seen) < 50:
            return None
        told.append(at)
        return Fault("status", status=429)

    o.hurt = once
    o.round()
    after = min(at for at in o.seen if at > told[0])
    pace = o.between(after, after + 1)
    return [f"{pace} requests in the second after a 429"] if pace > LIMIT * START_SHARE * 0.6 + 1 else []


def crowded() -> list[str]:
    """What is refused is not asked again at once."""
    o = Watched(1)
    start = o.time
    o.hurt = lambda at: Fault("status", status=429) if at < start + 1.5 * MINUTE else None
    o.round()
    hasty = sum(later - at < 0.2 for at, later in zip(o.seen, o.seen[1:], strict=False) if at < start + 60)
    return [f"{hasty} repetitions at once"] if hasty > 2 else []


def outage() -> list[str]:
    """While nobody answers, a probe now and then is all; and then everything is billed."""
    o = Watched(20)
    over = o.time + OUTAGE
    o.hurt = lambda at: Fault("drop") if at < over else None
    while o.time < over + 20 * MINUTE:
        o.round()
        o.time += MINUTE
    asked = o.between(0, over)
    wrong = [f"{asked} requests into an outage"] if asked > MOST_PROBES else []
    return wrong + ([] if o.totals() == [323] * 20 else ["not everything is billed"])


def refused_key() -> list[str]:
    """A key that is refused is not tried with the next customer."""
    o = Watched(5)
    o.fake.revoked[FAKE_KEY] = 403
    with suppress(UserError):
        o.round()
    return [] if o.fake.requests == 1 else [f"{o.fake.requests} requests with a key that is refused"]


def deleted_customer() -> list[str]:
    """Nothing more is sent for a customer that is gone; the others go on."""
    o = Watched(2)
    o.round()
    gone = o.ledger.person("c00")
    assert gone is not None
    o.fake.customers.delete(gone.external)
    o.books += [closed(customer, "2023-12") for customer in ("c00", "c01")]
    o.round()
    before = o.fake.posts
    o.round()
    wrong = [] if o.fake.posts == before else ["asked again for a customer that is gone"]
    return wrong + ([] if len(o.totals()) == 3 else ["another customer was not billed"])


def own_retries() -> list[str]:
    """Every writing request that leaves has an intent of its own in the ledger."""
    o, chance, intents = Watched(10), random.Random(3), [0]
    intend = o.ledger.intend

    def count(*arguments: Any, **named: Any) -> None:
        intents[0] += 1
        intend(*arguments, **named)

    o.ledger.intend = count  # type: ignore[method-assign] # counted
    o.hurt = lambda _: chance.choice((Fault("drop", when="after"), Fault("status", status=500), None, None))
    for _ in range(20):
        o.round()
        o.time += 16 * MINUTE
    return [] if o.fake.posts == intents[0] else [f"{o.fake.posts} requests for {intents[0]} intents"]


Without = Callable[[pytest.MonkeyPatch], None]


def no_bucket(m: pytest.MonkeyPatch) -> None:
    """R7: requests go as fast as they can."""
    m.setattr(Bucket, "take", lambda _: None)


def no_slowing(m: pytest.MonkeyPatch) -> None:
    """R7: a 429 does not change the rate."""
    m.setattr(Bucket, "slow", lambda _: None)


def no_pauses(m: pytest.MonkeyPatch) -> None:
    """R7: no pause before the next attempt."""
    m.setattr(Pace, "rest", lambda *_: None)
    m.setattr(pacing, "_SLOWEST", LIMIT)


def no_breaker(m: pytest.MonkeyPatch) -> None:
    """R8: nobody stops asking."""
    m.setattr(Breaker, "check", lambda _: None)


def no_halt(m: pytest.MonkeyPatch) -> None:
    """R8: a refused key counts as one request that was refused."""
    m.setattr(stripe_errors, "Halt", Rejected)


def no_stop(m: pytest.MonkeyPatch) -> None:
    """R8: a customer that is gone is not put aside."""
    m.setattr(Accounts, "stop", lambda *_: None)


def retries_of_the_sdk(m: pytest.MonkeyPatch) -> None:
    """R9: the SDK repeats by itself what the ledger knows nothing of."""
    real = stripe.StripeClient

    def client(*arguments: Any, **named: Any) -> Any:
        return real(*arguments, **{**named, "max_network_retries": 2})

    m.setattr(stripe, "StripeClient", client)
    m.setattr(FakeClient, "_sleep_time_seconds", lambda *_, **__: 0)


RULES: list[tuple[Callable[[], list[str]], Without]] = [
    (share, no_bucket),
    (too_fast, no_slowing),
    (crowded, no_pauses),
    (outage, no_breaker),
    (refused_key, no_halt),
    (deleted_customer, no_stop),
    (own_retries, retries_of_the_sdk),
]


@pytest.mark.parametrize("scenario", [scenario for scenario, _ in RULES], ids=lambda s: s.__name__)
def test_the_provider_has_nothing_to_complain_about(scenario: Callable[[], list[str]]) -> None:
    assert scenario() == []


@pytest.mark.parametrize(("scenario", "without"), RULES, ids=[without.__name__ for _, without in RULES])
def test_each_rule_is_needed(
    scenario: Callable[[], list[str]], without: Without, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch)
    assert scenario() != [], without.__doc__
