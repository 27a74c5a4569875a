"""Runs a scenario of `tests/vectors/quota`: what is used and asked, and what must follow.

Amounts are in units. `run` takes states and events after each step, and restarts where it is told to.
"""

from dataclasses import dataclass, field
from typing import Any

from metering.quota.quotas import Quotas
from metering.quota.wire import (
    Check,
    Commit,
    GrantFact,
    LimitFact,
    QuotaEvent,
    QuotaState,
    Release,
    Reply,
    Reserve,
)
from metering.rating.money import MICRO, format_exact
from tests.quota.test_windows import ms
from tests.quota.world import START, catalog, events, states, units

FIELDS = ("amount", "posted", "reserved", "remaining", "room")


@dataclass
class Run:
    """A scenario under way."""

    body: dict[str, Any]
    restarts: bool = False
    clock: int = START
    history: list[Any] = field(default_factory=list)
    latest: dict[tuple[str, str, int], QuotaState | None] = field(default_factory=dict)
    unseen: list[QuotaEvent] = field(default_factory=list)
    all_events: list[QuotaEvent] = field(default_factory=list)
    entries: dict[bytes, bytes] = field(default_factory=dict)
    leases: dict[str, Reply] = field(default_factory=dict)
    requests: int = 0

    def __post_init__(self) -> None:
        self.clock = ms(self.body["from"]) if "from" in self.body else START
        self.catalog = catalog(self.body)
        self.owner = self.made()
        self.owner.adopt(self.catalog)
        self.owner.advance(self.clock)

    def made(self) -> Quotas:
        return Quotas(0, lambda _: True, history=self.used_before)

    def used_before(self, *_: Any) -> list[Any]:
        return self.history

    def run(self) -> "Run":
        for number, step in enumerate(self.body["steps"], 1):
            try:
                self.step(step)
            except AssertionError as error:
                raise AssertionError(f"step {number} {step}: {error}") from error
            self.take()
            if self.restarts:
                self.restart()
        return self

    def step(self, step: dict[str, Any]) -> None:
        if "at" in step:
            self.clock = ms(step["at"])
            self.owner.advance(self.clock)
        for what, load in step.items():
            if what not in ("at", "reply"):
                getattr(self, f"do_{what}")(load, step)

    def take(self) -> None:
        taken = self.owner.take(0)
        for record in states(taken):
            self.latest[record.scope, record.limit, record.window_start] = record
        self.unseen += events(taken)
        self.all_events += events(taken)
        for key, value in taken.entries:
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value

    def restart(self) -> None:
        header = self.owner.header()
        self.owner = self.made()
        assert not self.owner.restore(header, list(self.entries.items()))
        self.owner.adopt(self.catalog)

    # -- steps ------------------------------------------------------------------------------------

    def do_use(self, load: Any, _: dict[str, Any]) -> None:
        load = load if isinstance(load, dict) else {"units": load}
        when = ms(load["time"]) if "time" in load else self.clock
        quantity = units(load["units"])
        lease = self.leases[load["lease"]].lease if "lease" in load else ""
        region = (("region", load["region"]),) if "region" in load else ()
        requests = load.get("requests", -1 if quantity < 0 else 1)
        meter = load.get("meter", "tokens")
        self.owner.post(load.get("customer", "a"), meter, region, when, quantity, requests, lease)

    def do_reserve(self, load: dict[str, Any], step: dict[str, Any]) -> None:
        request = Reserve(
            request=load.get("id") or self.next_id(),
            client=load.get("client", "x"),
            customer=load.get("customer", "a"),
            meter=load.get("meter", "tokens"),
            quantity=text_of(load["units"]),
            least=text_of(load["least"]) if "least" in load else "",
            whole=load.get("whole", False),
            requests=load.get("requests", 1),
            validity_ms=load.get("validity_ms", 30_000),
        )
        reply = self.owner.ask(request)
        if "as" in load:
            self.leases[load["as"]] = reply
        self.compare(reply, step["reply"])

    def do_check(self, load: dict[str, Any], step: dict[str, Any]) -> None:
        customer, meter = load.get("customer", "a"), load.get("meter", "tokens")
        request = Check(self.next_id(), "x", customer, meter, text_of(load["units"]), load.get("requests", 1))
        before = self.owner.header()
        self.compare(self.owner.ask(request), step["reply"])
        assert self.owner.header() == before, "a check has changed something"

    def do_commit(self, load: dict[str, Any], step: dict[str, Any]) -> None:
        lease = self.leases[load["lease"]].lease if load["lease"] in self.leases else load["lease"]
        used = text_of(load["used"])
        request = Commit(
            self.next_id(), "x", load.get("customer", "a"), lease, load["n"], used, load.get("done", False)
        )
        self.compare(self.owner.ask(request), step["reply"])

    def do_release(self, load: str, step: dict[str, Any]) -> None:
        lease = self.leases[load].lease if load in self.leases else load
        self.compare(self.owner.ask(Release(self.next_id(), "x", "a", lease)), step["reply"])

    def do_catalog(self, load: dict[str, Any], _: dict[str, Any]) -> None:
        self.catalog = catalog({**self.body, **load})
        self.owner.adopt(self.catalog)

    def do_grant(self, load: dict[str, Any], _: dict[str, Any]) -> None:
        fact = GrantFact(
            id=load["id"],
            scope=load.get("scope", "a"),
            limit=load["limit"],
            amount=text_of(load.get("amount", 0)),
            starts=ms(load["from"]) if "from" in load else self.clock,
            ends=ms(load["to"]) if "to" in load else 0,
            revoked=load.get("revoked", False),
            actor="mira",
            reason="goodwill",
        )
        self.owner.learn(fact)

    def do_set_limit(self, load: dict[str, Any], _: dict[str, Any]) -> None:
        amount = text_of(load["amount"]) if "amount" in load else ""
        self.owner.learn(LimitFact("a", load["limit"], amount, load.get("cleared", False), "mira", "call"))

    def do_expect(self, load: dict[str, Any], _: dict[str, Any]) -> None:
        self.take()
        scope, limit = load.get("scope", "a"), load["limit"]
        found = [s for (sc, li, _), s in sorted(self.latest.items()) if (sc, li) == (scope, limit) and s]
        if "window" in load:
            found = [s for s in found if s.window_start == ms(load["window"])]
        assert found, "no state"
        for name, wanted in load.items():
            if name in FIELDS:
                text = getattr(found[-1], name)
                value = format_exact(int(text), MICRO) if text else "none"
                assert value == str(wanted), f"{name} is {value}, not {wanted}"
            elif name in ("state", "strict_below"):
                assert getattr(found[-1], name) == wanted, f"{name} is {getattr(found[-1], name)}"

    def do_events(self, load: list[str], _: dict[str, Any]) -> None:
        self.take()
        found = [
            " ".join(map(str, filter(None, (e.event, e.scope, e.limit, e.percent or e.subject))))
            for e in self.unseen
        ]
        self.unseen = []
        assert found == load, f"events are {found}"

    def next_id(self) -> str:
        self.requests += 1
        return f"r{self.requests}"

    def compare(self, reply: Reply, wanted: dict[str, Any]) -> None:
        for name, value in wanted.items():
            found = getattr(reply, name)
            if name == "granted":
                found = format_exact(int(found), MICRO) if found else ""
                value = str(value)
            assert found == value, f"{name} is {found!r}, not {value!r}: {reply}"


def text_of(amount: Any) -> str:
    """An amount on the wire; text that is none stays what it is."""
    try:
        return str(units(amount))
    except ValueError:
        return str(amount)
