"""Closed periods that late usage may still correct: their terms as they were, and what was posted.

They are kept for the horizon of deduplication; behind it, late usage is refused.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from metering.catalog.resolved import Catalog, agreement_of, excerpt
from metering.rating.adjust import Posted
from metering.rating.cards import Origin
from metering.rating.hourly import Carry
from metering.rating.rows import ChargeRow
from metering.rating.terms import Agreement, Terms
from metering.records import key
from metering.state.dedupe import HORIZON_DAYS
from metering.state.saved_usage import carry_of, carry_value

KEEP_HOURS = HORIZON_DAYS * 24


@lru_cache(maxsize=10_000)
def _agreement(raw: bytes) -> Agreement:
    return agreement_of(raw)


class ClosedBooks:
    """Terms and posted amounts by account and period; every change is an entry for the journal."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, str], dict[str, tuple[int, int | None, str]]] = {}
        self._terms: dict[str, bytes] = {}
        self._carried: dict[tuple[str, str], dict[str, Carry]] = {}
        self._posted: dict[tuple[str, str, str], Posted] = {}  # customer, period, price
        self.entries: dict[bytes, bytes | None] = {}

    def close(
        self,
        catalog: Catalog,
        account: str,
        period: str,
        rows: Iterable[ChargeRow],
        carried: Mapping[str, Carry],
    ) -> None:
        """Keep an account's terms, what its rows come to, and the windows that it began with."""
        self.begin(account, period, carried)
        self.keep_terms(catalog, account, period)
        for row in rows:
            what = Posted(row.amount, row.quantity, row.kind, row.meter, row.model, row.origin)
            self.post(row.customer, period, row.price, what)

    def keep_terms(self, catalog: Catalog, account: str, period: str) -> None:
        """Keep an account's terms of a period, unless they are kept."""
        if (account, period) in self._members:
            return
        members = {}
        for customer, terms in catalog.members(account).items():
            raw = excerpt(catalog, customer)
            name = blake2b(raw, digest_size=12).hexdigest()
            if name not in self._terms:
                self._terms[name] = raw
                self.entries[key("terms", name)] = raw
            members[customer] = (terms.starts, terms.ends, name)
        self._members[account, period] = members
        self._set(key("closed", account, period), members)

    def begin(self, account: str, period: str, carried: Mapping[str, Carry]) -> None:
        """Keep where the windows of the contract stood when a closed period began."""
        if carried:
            self._carried[account, period] = dict(carried)
            self._set(key("began", account, period), {p: carry_value(c) for p, c in carried.items()})

    def carried(self, account: str, period: str) -> Mapping[str, Carry]:
        """Where the windows of the contract stood when a closed period began."""
        return self._carried.get((account, period), {})

    def post(self, customer: str, period: str, price: str, what: Posted) -> None:
        """Add to what a price of a closed period came to."""
        held = self._posted.get((customer, period, price))
        if held is not None:
            amount, quantity = held.amount + what.amount, held.quantity + what.quantity
            what = what._replace(amount=amount, quantity=quantity)
        self._posted[customer, period, price] = what
        origin = (what.origin.card, what.origin.version, what.origin.currency)
        plain = (str(what.amount), str(what.quantity), what.kind, what.meter, what.model, origin)
        self._set(key("posted", customer, period, price), plain)

    def move(
        self, customer: str, period: str, price: str, amount: int, quantity: int, row: ChargeRow | None
    ) -> None:
        """Add to what a price came to, as a restated `row` of it says what it is; None: it is gone."""
        held = self._posted.get((customer, period, price))
        if row is not None:
            held = Posted(0, 0, row.kind, row.meter, row.model, row.origin)
        assert held is not None, "a price without a row was posted before"
        self.post(customer, period, price, held._replace(amount=amount, quantity=quantity))

    def members(self, account: str, period: str, catalog: Catalog) -> Mapping[str, Terms]:
        """The terms at the close; the catalog's for an account that had nothing then."""
        kept = self._members.get((account, period))
        if kept is None:
            return catalog.members(account)
        return {
            customer: Terms(customer, starts, ends, _agreement(self._terms[name]))
            for customer, (starts, ends, name) in kept.items()
        }

    def posted(self, customers: Iterable[str], period: str) -> dict[tuple[str, str], Posted]:
        """What was posted for a closed period, by customer and price."""
        wanted = set(customers)
        return {
            (c, price): held for (c, p, price), held in self._posted.items() if p == period and c in wanted
        }

    def forget(self, period: str) -> None:
        """Drop a period that is beyond the horizon."""
        for account, name in [place for place in self._members if place[1] == period]:
            del self._members[account, name]
            self.entries[key("closed", account, name)] = None
            if self._carried.pop((account, name), None) is not None:
                self.entries[key("began", account, name)] = None
        for place in [place for place in self._posted if place[1] == period]:
            del self._posted[place]
            self.entries[key("posted", *place)] = None
        used = {name for members in self._members.values() for _, _, name in members.values()}
        for name in self._terms.keys() - used:
            del self._terms[name]
            self.entries[key("terms", name)] = None

    def _set(self, place: bytes, value: object) -> None:
        self.entries[place] = msgspec.msgpack.encode(value)

    def restore(self, kind: str, place: list[Any], raw: bytes) -> bool:
        """Take back an entry; False when it is not one of these."""
        if kind == "terms":
            self._terms[place[0]] = raw
        elif kind == "closed":
            found = msgspec.msgpack.decode(raw)
            self._members[place[0], place[1]] = {c: (s, e, n) for c, (s, e, n) in found.items()}
        elif kind == "began":
            found = msgspec.msgpack.decode(raw)
            self._carried[place[0], place[1]] = {p: carry_of(value) for p, value in found.items()}
        elif kind == "posted":
            amount, quantity, row_kind, meter, model, origin = msgspec.msgpack.decode(raw)
            self._posted[place[0], place[1], place[2]] = Posted(
                int(amount), int(quantity), row_kind, meter, model, Origin(*origin)
            )
        else:
            return False
        return True
