"""What the fake's resources share: the state, the clock, listings in pages, events."""

from collections.abc import Callable
from typing import Any

from billing_sync.stripe_fake.errors import invalid
from billing_sync.stripe_fake.state import State

_DEFAULT_PAGE, _LARGEST_PAGE = 10, 100


class Resources:
    """The objects of one account at one clock."""

    def __init__(self, state: State, clock: Callable[[], float]) -> None:
        self.state = state
        self.clock = clock

    @property
    def now(self) -> int:
        """Epoch seconds."""
        return int(self.clock())

    def need(self, identity: str, kind: str, *, param: str = "", status: int = 404) -> dict[str, Any]:
        """An object of a kind, or Stripe's error for one that is not there."""
        found = self.state.get(identity)
        if found is None or found["object"] != kind or found.get("deleted"):
            name = kind.rpartition(".")[2]
            raise invalid(f"No such {name}: '{identity}'", "resource_missing", param or name, status)
        return found

    def tell(self, kind: str, body: dict[str, Any]) -> None:
        """Record an event about an object, to be delivered to webhook endpoints."""
        event = {"type": kind, "created": self.now, "livemode": False, "data": {"object": body}}
        self.state.create("event", "evt", event)


def page(found: list[dict[str, Any]], query: dict[str, str], url: str) -> dict[str, Any]:
    """A page of a listing, 10 long unless asked otherwise."""
    limit = int(query.get("limit", _DEFAULT_PAGE))
    if not 1 <= limit <= _LARGEST_PAGE:
        raise invalid("limit must be between 1 and 100", param="limit")
    after = query.get("starting_after")
    if after:
        ids = [item["id"] for item in found]
        if after not in ids:
            raise invalid(f"No such object: '{after}'", "resource_missing", "starting_after")
        found = found[ids.index(after) + 1 :]
    return {"object": "list", "data": found[:limit], "has_more": len(found) > limit, "url": url}
