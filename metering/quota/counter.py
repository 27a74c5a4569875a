"""What one limit has counted in one window; its saved form."""

from dataclasses import dataclass, field

import msgspec

from metering.quota.grants import Drawn
from metering.quota.windows import Bounds
from metering.quota.wire import Standing

RATE_MS = 10_000  # rates are measured over ten seconds of append time


@dataclass(slots=True)
class Counter:
    """Amounts in 10^-6 of what the limit counts; `held` in what a caller counts.

    `fired` is the number of thresholds that fired under `version`. `crossed` is when the amount was
    passed. `buckets` are a rolling window's. `sequence` is that of the last change.
    """

    bounds: Bounds
    version: str = ""
    posted: int = 0
    fired: int = 0
    state: Standing = "ok"
    crossed: int | None = None
    has_overrun: bool = False
    drawn: Drawn = field(default_factory=list)
    buckets: dict[int, int] = field(default_factory=dict)
    sequence: int = 0
    slot: int = 0
    recent: int = 0
    before: int = 0
    held: int = 0  # derived from the leases
    quiet_until: int = 0  # derived: below this nothing happens but counting

    def flow(self, clock: int, amount: int) -> None:
        """Count towards the rate."""
        slot = clock // RATE_MS
        if slot != self.slot:
            self.before = self.recent if slot == self.slot + 1 else 0
            self.recent, self.slot = 0, slot
        self.recent += amount

    def rate(self, clock: int) -> int:
        """The higher of the rates of this and the last ten seconds, a second."""
        slot = clock // RATE_MS
        if slot > self.slot + 1:
            return 0
        before = self.before if slot == self.slot else 0
        return max(before, self.recent) * 1_000 // RATE_MS

    @property
    def drawn_total(self) -> int:
        """What grants gave to this window."""
        return sum(amount for _, amount in self.drawn)

    def saved(self) -> bytes:
        """The counter as an entry of the journal; amounts can pass 64 bits, so they are text."""
        return msgspec.msgpack.encode(
            (
                *(self.bounds.start, self.bounds.end, self.version, str(self.posted), self.fired),
                *(self.state, self.crossed, self.has_overrun),
                [(grant, str(amount)) for grant, amount in self.drawn],
                [(bucket, str(amount)) for bucket, amount in sorted(self.buckets.items())],
                *(self.sequence, self.slot, str(self.recent), str(self.before)),
            )
        )

    @classmethod
    def restored(cls, raw: bytes) -> "Counter":
        """The counter of an entry."""
        start, end, version, posted, fired, state, crossed, overrun, drawn, buckets, *rest = (
            msgspec.msgpack.decode(raw)
        )
        sequence, slot, recent, before = rest
        return cls(
            Bounds(start, end),
            version,
            int(posted),
            fired,
            state,
            crossed,
            overrun,
            [(grant, int(amount)) for grant, amount in drawn],
            {bucket: int(amount) for bucket, amount in buckets},
            sequence,
            slot,
            int(recent),
            int(before),
        )
