"""Which account at the provider is a customer's: from the catalog, by metadata, or created on request."""

from hashlib import sha256

from billing_sync.config import BillingConfig
from billing_sync.exchange import Exchange, fingerprint
from billing_sync.ledger import Ledger
from billing_sync.port import CustomerMissing, Provider


class Unmapped(Exception):
    """Nobody knows the customer's account: park it, never bill somebody else."""


class Stopped(Exception):
    """Nothing is sent for this customer until a person has acted."""


class Accounts:
    """Finds accounts and remembers them."""

    def __init__(
        self,
        ledger: Ledger,
        provider: Provider,
        exchange: Exchange,
        config: BillingConfig,
        *,
        may_create: bool,
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._exchange = exchange
        self._config = config
        self._may_create = may_create

    def of(self, customer: str, name: str, catalog: str, now: int) -> str:
        """The customer's account; a mapping by a person comes first, then the catalog's."""
        known = self._ledger.person(customer)
        if known is not None and known.stopped:
            raise Stopped(known.stopped)
        wanted = self._config.customers.get(customer)
        said = (wanted.account if wanted else "") or catalog
        if known is not None and (known.how == "mapped" or not said or known.external == said):
            return known.external
        external, how = (said, "catalog") if said else self._look(customer, name)
        self._ledger.map_person(customer, external, how, now)
        return external

    def _look(self, customer: str, name: str) -> tuple[str, str]:
        found = self._exchange.read(lambda: self._provider.find_customer(customer))
        if found is not None:
            return found, "metadata"
        if not self._may_create:
            raise Unmapped(
                "no account is known: `billing-sync customers map` or `stripe_customer` in the catalog"
            )
        made = self._exchange.once(
            customer,
            f"customer_{sha256(customer.encode()).hexdigest()[:40]}",
            fingerprint((customer, name)),
            lambda key: self._provider.create_customer(customer, name, key),
            lambda: self._provider.find_customer(customer, is_fresh=True),
        )
        return made, "created"

    def stop(self, customer: str, error: CustomerMissing, now: int) -> None:
        """The account is gone: others go on."""
        self._ledger.stop_person(customer, f"customer_missing: {error}", now)
