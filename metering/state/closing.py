"""What a partition says on `usage.hourly`: its totals, restatements, and the watermark behind them.

A period closes behind the record whose event lets the watermark pass its grace. The totals as they are
there go out at once, with the watermark behind them: what follows is late, for the rate fold as well.
"""

from metering.records import Approved, Restatement, Watermark, encode, key, version
from metering.state.calendar import closes_at, open_from
from metering.state.fold import Output
from metering.state.hourly_table import HourlyTable, TotalKey, place_key
from metering.state.meter_rules import MeterRules


class Closing:
    """The open periods of a partition, and what waits to be published; watermarks in epoch ms."""

    def __init__(self, rules: MeterRules, table: HourlyTable) -> None:
        self.open_from = 0  # what is older (epoch ms) is of a closed period
        self.closes_at = 1  # the watermark that closes the next period; the first closes all before it
        self.boundary = 0  # where the last close or restatement was
        self._rules = rules
        self._table = table
        self._announced = -1  # the watermark last put on usage.hourly
        self._published: list[Output] = []  # up to the boundary, since the last checkpoint
        self._restating: dict[tuple[str, str], list[Approved]] = {}  # by customer and period; of this record

    def restate(self, customer: str, period: str, approved: Approved) -> None:
        """Charge a closed period again behind this record."""
        self._restating.setdefault((customer, period), []).append(approved)

    def end_record(self, behind: int, watermark: int, revision: int) -> None:
        """Part the log behind a record that closes a period or restates one: what follows comes later."""
        if watermark < self.closes_at and not self._restating:
            return
        stamp = str(version(self._rules.epoch, behind, revision))
        self._published += self._totals(stamp)
        for (customer, period), approvals in self._restating.items():
            record = Restatement(customer, period, approvals, stamp)
            place = key("restatement", customer, period, behind)
            self._published.append(Output(self._rules.hourly_topic, place, encode(record)))
        if watermark != self._announced:
            self._published.append(self._watermark_record(watermark, stamp, behind))
        self._restating = {}
        self.boundary, self._announced = behind, watermark
        self._close(watermark)

    def take(self, watermark: int, stamp: str) -> list[Output]:
        """What a checkpoint publishes: what was parted, what has changed since, and the watermark."""
        outputs, self._published = self._published + self._totals(stamp), []
        if watermark != self._announced:
            outputs.append(self._watermark_record(watermark, stamp))
        self._announced = watermark
        return outputs

    def restore(self, watermark: int, boundary: int) -> None:
        """Go on behind a durable copy."""
        self._announced, self.boundary = watermark, boundary
        self._close(watermark)

    def _close(self, watermark: int) -> None:
        self.open_from = open_from(watermark, self._rules.grace_hours)
        self.closes_at = closes_at(self.open_from, self._rules.grace_hours) if watermark else 1

    def _totals(self, stamp: str) -> list[Output]:
        return self._table.take_records(self._rules.hourly_topic, stamp, self._key_of)

    def _key_of(self, place: TotalKey) -> bytes:
        """Compaction must leave a total as it was at the close: what comes later has another key."""
        is_late = place[3] * 1_000 < self.open_from
        return place_key(place, self.boundary) if is_late else place_key(place)

    def _watermark_record(self, watermark: int, stamp: str, *closing: int) -> Output:
        """One that closes a period has a key of its own, so that compaction leaves it in its place."""
        record = Watermark(self._rules.partition, watermark, stamp)
        place = key("watermark", self._rules.partition, *closing)
        return Output(self._rules.hourly_topic, place, encode(record))
