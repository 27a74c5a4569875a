"""Deliveries as Stripe makes them: signed, at least once, late and in any order."""

import json
import random
from typing import Any, NamedTuple

import stripe

from billing_sync.stripe_fake.core import Fake


class Delivery(NamedTuple):
    """The raw body of a webhook and its signature header."""

    body: str
    signature: str


class Deliveries:
    """What one endpoint of an account gets, drawn from the recorded events."""

    def __init__(self, fake: Fake, secret: str, seed: int = 0) -> None:
        self._fake = fake
        self._secret = secret
        self._chance = random.Random(seed)
        self._known: set[str] = set()
        self._late: list[dict[str, Any]] = []

    def take(self, *, twice: float = 0.0, late: float = 0.0) -> list[Delivery]:
        """The deliveries of now, shuffled; the shares are of those that come twice or later."""
        waiting = self._late + [e for e in self._events() if e["id"] not in self._known]
        self._known |= {event["id"] for event in waiting}
        self._late = [event for event in waiting if self._chance.random() < late]
        due = [event for event in waiting if event not in self._late]
        due += [event for event in due if self._chance.random() < twice]
        self._chance.shuffle(due)
        return [self.sign(event) for event in due]

    def sign(self, event: dict[str, Any]) -> Delivery:
        """An event as it is sent now."""
        body = json.dumps(event)
        header = stripe.WebhookSignature.generate_signature_header(body, self._secret, self._fake.now)
        return Delivery(body, str(header))

    def _events(self) -> list[dict[str, Any]]:
        state = self._fake.state
        return [*reversed(state.all("event")), *reversed(state.all("v2.core.event"))]
