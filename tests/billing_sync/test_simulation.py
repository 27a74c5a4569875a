"""Any usage, any fault, any restart: Stripe's state equals the books; and every rule is needed for it."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from billing_sync import exchange
from billing_sync.exchange import Exchange
from billing_sync.ledger import Ledger
from billing_sync.providers import stripe_meters
from tests.billing_sync.simulate import World, simulate

SEEDS, MORE, CHUNK = 100, 400, 20
MOST = 40  # seeds until a missing rule has shown


def chunks(first: int, seeds: int, *marks: pytest.MarkDecorator) -> list[Any]:
    return [pytest.param(seed, marks=marks) for seed in range(first, seeds + 1, CHUNK)]


@pytest.mark.parametrize("first", [*chunks(1, SEEDS), *chunks(SEEDS + 1, MORE, pytest.mark.slow)])
def test_stripe_equals_the_books(first: int) -> None:
    for seed in range(first, first + CHUNK):
        errors, world = simulate(seed)
        assert not errors, f"seed {seed}"
        assert world.faults > 0, f"seed {seed}"


def no_intent(m: pytest.MonkeyPatch) -> None:
    """R1: the intent is not written before the request leaves."""
    m.setattr(Ledger, "intend", lambda *_, **__: None)


def random_keys(m: pytest.MonkeyPatch) -> None:
    """R2: keys do not come from the business fact."""
    real = Exchange._send

    def send(self: Exchange, who: str, request: str, said: str, epoch: int, call: Any) -> str:
        return real(self, who, request, said, epoch, lambda _: str(call(uuid.uuid4().hex)))

    m.setattr(Exchange, "_send", send)


def keys_trusted_for_ever(m: pytest.MonkeyPatch) -> None:
    """R3: a key is trusted for longer than the provider remembers it."""
    m.setattr(Exchange, "_is_same_key_safe", lambda _, known, __: not known.saw_5xx)


def failures_repeated(m: pytest.MonkeyPatch) -> None:
    """R3: after a failure inside, the same key is sent again and again, and answers the same."""
    m.setattr(Ledger, "saw_5xx", lambda *_: None)


def no_quiet_time(m: pytest.MonkeyPatch) -> None:
    """R4: looked up at once, while the first request may still land."""
    m.setattr(exchange, "QUIET_SECONDS", 0)


def no_look_up(m: pytest.MonkeyPatch) -> None:
    """R4: sent again under a new key without looking whether it is there."""
    real = Exchange.once

    def once(self: Exchange, who: str, request: str, said: str, call: Any, _find: object) -> str:
        return real(self, who, request, said, call, lambda: None)

    m.setattr(Exchange, "once", once)


def duplicates_refused(m: pytest.MonkeyPatch) -> None:
    """R5: an identifier that exists already counts as a failure."""
    m.setattr(stripe_meters, "_DUPLICATE", "never said")


def revisions_overtake(m: pytest.MonkeyPatch) -> None:
    """R6: a new total is sent while an older one may still land."""
    real = Ledger.want_hour

    def want(self: Ledger, customer: str, meter: str, hour: int, quantity: Any) -> bool:
        held = self.hour(customer, meter, hour)
        if held is not None and held.state == "inflight":
            self.set_hour(held, "planned")
        return real(self, customer, meter, hour, quantity)

    m.setattr(Ledger, "want_hour", want)


def carry_forgotten(m: pytest.MonkeyPatch) -> None:
    """The remainder is not part of the plan's transaction."""
    m.setattr(Ledger, "_move_carry", lambda *_: None)


RULES = [
    no_intent,
    random_keys,
    keys_trusted_for_ever,
    failures_repeated,
    no_quiet_time,
    no_look_up,
    duplicates_refused,
    revisions_overtake,
    carry_forgotten,
]


@pytest.mark.parametrize("without", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_is_needed(
    without: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch)
    assert any(fails(seed) for seed in range(1, MOST + 1)), without.__doc__


def fails(seed: int) -> bool:
    return bool(simulate(seed)[0])


def test_the_world_is_a_pure_function_of_its_seed() -> None:
    first, second = World(7), World(7)
    for world in (first, second):
        world.live()
    assert (first.requests, first.faults, first.now) == (second.requests, second.faults, second.now)
    assert first.ledger.carries() == second.ledger.carries()
