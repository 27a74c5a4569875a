"""Subscriptions in the ledger: what each says now, and every price with when it began."""

from typing import NamedTuple

from billing_sync.ledger.store import Store

_COLUMNS = "id, customer, account, currency, started, anchor, trial_end, ended"


class Subscribed(NamedTuple):
    """A subscription; times in epoch seconds, 0 for none; `prices` with when each began."""

    id: str
    customer: str
    account: str
    currency: str
    started: int
    anchor: int
    trial_end: int
    ended: int
    prices: tuple[tuple[int, str], ...] = ()


class Subscriptions(Store):
    """One row a subscription, one a price and when it began."""

    def keep_subscription(self, one: Subscribed) -> None:
        """What a subscription says now; prices that are known stay."""
        values = dict(zip(_COLUMNS.split(", "), one[:8], strict=True))
        names = ", ".join(f":{name}" for name in values)
        changes = ", ".join(f"{name} = excluded.{name}" for name in values if name != "id")
        with self.transaction():
            self.run(
                f"INSERT INTO subscription ({_COLUMNS}) VALUES ({names})"
                f" ON CONFLICT (id) DO UPDATE SET {changes}",
                **values,
            )
            for starts, price in one.prices:
                self.run(
                    "INSERT INTO subscribed (id, starts, price) VALUES (:id, :starts, :price)"
                    " ON CONFLICT (id, starts) DO UPDATE SET price = excluded.price",
                    id=one.id,
                    starts=starts,
                    price=price,
                )

    def subscriptions(self) -> list[Subscribed]:
        """Every subscription."""
        prices: dict[str, list[tuple[int, str]]] = {}
        for identity, starts, price in self.rows("SELECT id, starts, price FROM subscribed ORDER BY starts"):
            prices.setdefault(identity, []).append((int(starts), str(price)))
        rows = self.rows(f"SELECT {_COLUMNS} FROM subscription ORDER BY id")
        return [Subscribed._make([*row, tuple(prices.get(row[0], ()))]) for row in rows]
