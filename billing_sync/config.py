"""How this deployment bills: a small YAML file, checked as a whole; without one everything is invoiced."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from billing_sync.currencies import MINIMUM_CHARGE, exponent_and_step
from metering.errors import UserError
from metering.settings import Settings


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MeterRule(_Strict):
    """A price that the provider rates itself, from the hourly totals we report to its meter."""

    price: str
    event_name: Annotated[str, Field(min_length=1, max_length=100)]
    customers: tuple[str, ...] = ()  # empty: every customer

    def covers(self, customer: str) -> bool:
        """Whether the rule is for this customer."""
        return not self.customers or customer in self.customers


class CustomerRule(_Strict):
    """A customer's account at the provider, the subscription whose draft takes our lines, and its tax."""

    account: str = ""
    subscription: str = ""
    automatic_tax: bool | None = None


class BillingConfig(_Strict):
    """The whole file."""

    provider: Literal["stripe", "files"] = "stripe"
    automatic_tax: bool | None = None  # unset: as the account's tax settings say
    credit_notes: bool = False  # what a restatement takes off goes back at once, not onto the next invoice
    create_customers: bool | None = None  # unset: only at the fake
    minimum: dict[str, int] = {}  # by currency, in minor units: less is carried; unset: the provider's
    spread_minutes: Annotated[int, Field(ge=0, le=60)] = 60  # of `run`; `run --once` does not wait
    park_alarm_days: Annotated[int, Field(ge=1)] = 7
    meter_stream: bool = False  # many hours in a request, checked later; for hundreds of hours a second
    meter_events: tuple[MeterRule, ...] = ()
    customers: dict[str, CustomerRule] = {}
    plans: dict[str, str] = {}  # the provider's price to our plan: its subscriptions go into the catalog
    trial_plan: str = ""  # our plan during a trial

    def minimum_of(self, currency: str) -> int:
        """The smallest invoice in a currency, in minor units."""
        own = MINIMUM_CHARGE.get(currency, 0) if self.provider == "stripe" else 0
        return self.minimum.get(currency, own)

    def tax_of(self, customer: str) -> bool | None:
        """Whether the provider adds tax for a customer; None when its account decides."""
        rule = self.customers.get(customer)
        said = rule.automatic_tax if rule else None
        return self.automatic_tax if said is None else said

    def rules_for(self, customer: str) -> dict[str, str]:
        """Event name by price, of what the provider rates for this customer."""
        return {rule.price: rule.event_name for rule in self.meter_events if rule.covers(customer)}


def load_config(settings: Settings) -> BillingConfig:
    """The file that METERING_BILLING_FILE names."""
    return read_config(settings.billing_file) if settings.billing_file else BillingConfig()


def read_config(path: Path) -> BillingConfig:
    """Read and check a file; every mistake is named at once."""
    try:
        found = BillingConfig.model_validate(yaml.safe_load(path.read_text()) or {})
    except OSError as error:
        raise UserError(f"the billing file {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"the billing file {path} is not YAML: {error}") from error
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(f"the billing file {path}: {mistakes}") from error
    for currency, minor in found.minimum.items():
        _, step = exponent_and_step(currency)
        if minor % step:
            raise UserError(f"the billing file {path}: minimum.{currency} must be a multiple of {step}")
    return found
