"""Billing: the real books, planner, ledger tables and sender; a process that dies, a provider that fails."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from clickhouse_connect.driver.exceptions import ClickHouseError
from sqlalchemy import CursorResult

from billing_sync.books import ClickHouseBooks
from billing_sync.exchange import QUIET_SECONDS
from billing_sync.ledger import MEMORY, Ledger
from billing_sync.planner import Plan, PlannedLine
from billing_sync.port import Caps, HeldInvoice, HeldLine, Rejected, Retry, Unknown
from billing_sync.round import Round
from billing_sync.stripe_fake.core import Fake
from billing_sync.stripe_fake.errors import ApiError
from billing_sync.stripe_fake.state import Answer as Stored
from tests.simulation.chance import Chance
from tests.simulation.database import Answer, Books

if TYPE_CHECKING:
    from tests.simulation.world import World

EVERY_SECONDS = 3.0
MOST_ROUNDS = 40


class Crashed(Exception):
    """The billing process ends here; its ledger stays."""


class SimulatedLedger(Ledger):
    """The real ledger over a database in memory; its process may die before or behind a commit."""

    def __init__(self, chance: Chance) -> None:
        self._chance: Chance | None = None
        super().__init__(MEMORY, "simulated")
        self._chance = chance

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As the ledger's; one inside another is part of it."""
        is_outer = self._open is None
        if is_outer:
            self._may_die()
        with super().transaction():
            yield
        if is_outer:
            self._may_die()

    def run(self, sql: str, **values: Any) -> CursorResult[Any]:
        """A statement alone is a transaction, too."""
        with self.transaction():
            return super().run(sql, **values)

    def _may_die(self) -> None:
        if self._chance is not None:
            _die(self._chance)

    def begin_anew(self, now: int) -> None:
        """As a process that opens a SQLite ledger: whoever held a claim is dead."""
        chance, self._chance = self._chance, None
        self.holder = f"simulated {now}"
        self.run("DELETE FROM claim")
        self._chance = chance


class SimulatedProvider:
    """The state of the Stripe fake behind the port, without HTTP: requests and answers get lost."""

    name = "simulated"
    caps = Caps(lines_per_call=2)

    def __init__(self, chance: Chance, wall: Callable[[], int]) -> None:
        self.fake = Fake(None, lambda: wall() // 1_000)
        self._chance = chance
        self._wall = wall

    def find_customer(self, customer: str, *, is_fresh: bool = False) -> str | None:  # noqa: ARG002 - always
        """See `port.Provider`."""
        return self._find("customer", "", "um_customer", customer)

    def create_customer(self, customer: str, name: str, key: str) -> str:
        """See `port.Provider`."""
        params = {"name": name, "metadata": {"um_customer": customer}}
        return str(self._write(key, params, lambda: self.fake.customers.create(params))["id"])

    def find_invoice(self, external_customer: str, plan: Plan) -> HeldInvoice | None:
        """See `port.Provider`."""
        found = self._find("invoice", external_customer, "um_invoice", plan.id)
        return None if found is None else self.get_invoice(found)

    def get_invoice(self, external: str) -> HeldInvoice:
        """See `port.Provider`."""
        self._travel()
        return _held(self.fake.invoices.get(external))

    def subscription_draft(self, external_customer: str, subscription: str) -> HeldInvoice | None:
        """See `port.Provider`."""
        raise AssertionError(f"{external_customer} has no {subscription}")

    def delete_draft(self, external: str) -> None:
        """See `port.Provider`."""
        raise AssertionError(f"{external} is not built again")

    def create_draft(self, external_customer: str, plan: Plan, key: str) -> str:
        """See `port.Provider`."""
        metadata = {"um_invoice": plan.id, "um_plan": plan.digest}
        params = {"customer": external_customer, "currency": plan.currency.lower(), "metadata": metadata}
        return str(self._write(key, params, lambda: self.fake.invoices.create(params))["id"])

    def add_lines(self, external: str, plan: Plan, lines: Sequence[PlannedLine], key: str) -> None:
        """See `port.Provider`."""
        held = [{"amount": str(line.minor), "metadata": {"um_line": line.id}} for line in lines]
        params = {"lines": held, "invoice": external, "period": plan.period}
        self._write(key, params, lambda: self.fake.invoices.add_lines(external, params))

    def lines(self, external: str) -> list[HeldLine]:
        """See `port.Provider`."""
        self._travel()
        found = self.fake.state.all("line_item", external)
        return [HeldLine(line["metadata"]["um_line"], line["amount"]) for line in found]

    def finalize(self, external: str, key: str) -> HeldInvoice:
        """See `port.Provider`."""
        return _held(self._write(key, {"invoice": external}, lambda: self.fake.invoices.finalize(external)))

    def _find(self, kind: str, parent: str, name: str, value: str) -> str | None:
        self._travel()
        for held in self.fake.state.all(kind, parent):
            if held["metadata"].get(name) == value:
                return str(held["id"])
        return None

    def _travel(self) -> None:
        _die(self._chance)
        if self._chance.hits("provider lost"):
            raise Retry("the simulated provider cannot be reached")

    def _write(self, key: str, params: Any, effect: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A request with an idempotency key, which the provider knows for a day; see the Stripe fake."""
        self._travel()
        now, fingerprint = self._wall() // 1_000, sha256(json.dumps(params).encode()).hexdigest()
        stored = self.fake.state.answer(key, now)
        if stored is None:
            stored = self._act(fingerprint, effect)
            self.fake.state.store_answer(key, stored, now)
        assert stored.fingerprint == fingerprint, f"{key} was used for another request"
        if self._chance.hits("provider answer lost"):
            raise Retry("the simulated answer was lost")
        _die(self._chance)
        if stored.status >= 500:
            raise Unknown("the simulated provider failed inside")
        if stored.status >= 400:
            raise Rejected(stored.body)
        return dict(json.loads(stored.body))

    def _act(self, fingerprint: str, effect: Callable[[], dict[str, Any]]) -> Stored:
        fails = self._chance.hits("provider failed")
        if fails and self._chance.random.random() < 0.5:
            return Stored(fingerprint, 500, "{}")
        try:
            body = effect()
        except ApiError as error:
            return Stored(fingerprint, error.status, json.dumps(error.body))
        return Stored(fingerprint, 500 if fails else 200, json.dumps(body))


def _die(chance: Chance) -> None:
    if chance.hits("billing crash"):
        raise Crashed


def _held(invoice: dict[str, Any]) -> HeldInvoice:
    return HeldInvoice(invoice["id"], invoice["status"], invoice["number"] or "", invoice["total"])


def held_invoices(provider: SimulatedProvider) -> dict[str, list[tuple[str, int]]]:
    """State and total of every invoice that the provider holds, by the plan that it names."""
    found: dict[str, list[tuple[str, int]]] = {}
    for invoice in provider.fake.state.all("invoice"):
        what = (invoice["status"], invoice["total"])
        found.setdefault(invoice["metadata"]["um_invoice"], []).append(what)
    return found


class BlockingClient:
    """As clickhouse-connect's blocking client."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def query(self, sql: str, parameters: dict[str, Any]) -> Answer:
        """Rows of a query."""
        return Answer(self._books.answer(sql, parameters))


async def bill(world: "World") -> None:
    """One round of billing; the next one begins with the ledger that this one leaves."""

    def now() -> int:
        return world.wall() // 1_000

    books = ClickHouseBooks(BlockingClient(world.books))
    try:
        Round(books, world.ledger, world.provider, clock=now, sleep=lambda _seconds: None).run()
    except Crashed:
        world.note("billing", "is killed")
        world.ledger.begin_anew(now())
    except ClickHouseError:
        world.note("billing", "the database is lost")


async def settle(world: "World") -> bool:
    """Bill until nothing waits: what the provider did not answer clearly is looked up after a while."""
    for _ in range(MOST_ROUNDS):
        await bill(world)
        if all(e.state in ("finalized", "carried") for e in world.ledger.entries()):
            return True
        world.leap_to(world.wall() + (QUIET_SECONDS + 1) * 1_000)
    return False
