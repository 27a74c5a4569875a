"""Who our customers are at the provider, whom sending stopped for, and what people did."""

import uuid
from typing import NamedTuple

from billing_sync.ledger.store import Store


class Person(NamedTuple):
    """A customer's account at the provider; `stopped` says why nothing is sent to it."""

    customer: str
    external: str
    how: str  # catalog, metadata, created or mapped
    stopped: str
    since: int


class Action(NamedTuple):
    """What a person did, and why."""

    at: int
    actor: str
    command: str
    subject: str
    reason: str


class People(Store):
    """Mappings and actions."""

    def person(self, customer: str) -> Person | None:
        """A customer's account, once it is known."""
        sql = "SELECT customer, external, how, stopped, since FROM person WHERE customer = :customer"
        found = self.rows(sql, customer=customer)
        return Person(*found[0]) if found else None

    def people(self) -> list[Person]:
        """Every known mapping."""
        sql = "SELECT customer, external, how, stopped, since FROM person ORDER BY customer"
        return [Person(*row) for row in self.rows(sql)]

    def map_person(self, customer: str, external: str, how: str, now: int) -> None:
        """Remember a customer's account; sending goes on."""
        self.run(
            "INSERT INTO person (customer, external, how, since)"
            " VALUES (:customer, :external, :how, :now) ON CONFLICT (customer) DO UPDATE SET"
            " external = excluded.external, how = excluded.how, stopped = '', since = excluded.since",
            customer=customer,
            external=external,
            how=how,
            now=now,
        )

    def stop_person(self, customer: str, reason: str, now: int) -> None:
        """Send nothing for this customer until a person has acted."""
        self.run(
            "UPDATE person SET stopped = :reason, since = :now WHERE customer = :customer",
            customer=customer,
            reason=reason,
            now=now,
        )

    def record(self, action: Action) -> None:
        """Keep what a person did."""
        self.run(
            "INSERT INTO action (id, at, actor, command, subject, reason)"
            " VALUES (:id, :at, :actor, :command, :subject, :reason)",
            id=uuid.uuid4().hex,
            **action._asdict(),
        )

    def mark(self, name: str) -> str:
        """How far something that goes on from round to round has come; empty at the beginning."""
        found = self.rows("SELECT value FROM mark WHERE name = :name", name=name)
        return str(found[0][0]) if found else ""

    def set_mark(self, name: str, value: str) -> None:
        """Remember how far something has come."""
        self.run(
            "INSERT INTO mark (name, value) VALUES (:name, :value)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name=name,
            value=value,
        )

    def actions(self) -> list[Action]:
        """What people did, in order."""
        sql = "SELECT at, actor, command, subject, reason FROM action ORDER BY at, id"
        return [Action(*row) for row in self.rows(sql)]
