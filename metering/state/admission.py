"""What a meter fold refuses by its place and time, whatever it counts."""

from metering.catalog.resolved import Catalog
from metering.events import Refusal, UsageEvent
from metering.state.calendar import hour_of, is_closed, period_of
from metering.state.dedupe import HORIZON_DAYS, SeenIds
from metering.state.measure import refuse
from metering.state.meter_rules import MeterRules
from metering.state.partitioning import partition_of


class Admission:
    """Whether an event belongs into a partition, and is not too old or ahead of time."""

    def __init__(self, rules: MeterRules, seen: SeenIds) -> None:
        self._rules, self._seen = rules, seen

    def is_ours(self, account: str) -> bool:
        """Whether an account's usage belongs into this partition."""
        return partition_of(account, self._rules.partitions) == self._rules.partition

    def misplaced(self, event: UsageEvent, appended: int, catalog: Catalog) -> Refusal | None:
        """Of another partition, or of a time to come."""
        account = catalog.account_of(event.customer)
        if not self.is_ours(account):
            whose = "the customer" if account == event.customer else f"the customer's pool `{account}`"
            return refuse(
                event,
                "wrong_partition",
                f"The record's key is not {whose}, or its partitioner is not murmur2: set both.",
            )
        if event.at > appended + self._rules.max_future_ms:
            return refuse(event, "in_the_future", "`time` is ahead of the broker's clock; correct the clock.")
        return None

    def too_late(self, event: UsageEvent, watermark: int) -> Refusal | None:
        """Usage counts only while its id would still be known, had it come before.

        Its first copy cannot have been appended earlier than its own time, less the allowed skew.
        """
        refusal = self.closed_long_ago(event, event.at, watermark)
        if refusal is None and self._seen.may_have_forgotten(event.at - self._rules.max_future_ms):
            return refuse(
                event,
                "too_old",
                f"The usage is more than {HORIZON_DAYS} days old: a copy of it may have been counted.",
            )
        return refusal

    def closed_long_ago(self, event: UsageEvent, at: int, watermark: int) -> Refusal | None:
        """Of a period that can no longer be adjusted; `at` is the time of the usage, epoch ms."""
        period = period_of(hour_of(at))
        if not self.is_beyond_correction(period, watermark):
            return None
        return refuse(
            event, "period_closed", f"Billing period {period} closed more than {HORIZON_DAYS} days ago."
        )

    def is_beyond_correction(self, period: str, watermark: int) -> bool:
        """Whether late usage of a period can no longer become an adjustment."""
        return is_closed(period, watermark, self._rules.grace_hours + HORIZON_DAYS * 24)


def conflict(event: UsageEvent) -> Refusal:
    """Why a second copy with other content does not count."""
    return refuse(
        event,
        "conflict",
        f"Event `{event.id}` came before with another type, time or data; the first copy counts.",
    )
