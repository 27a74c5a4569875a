"""What one limit has counted in one window; its saved form."""

from dataclasses import dataclass, field

import msgspec

from metering.quota.grants import Drawn
from metering.quota.windows import Bounds
from metering.quota.wire import Standing

RATE_MS = 1_000  # rates are measured by the second of append time
PEAK_SLOTS = 60  # and the highest of a minute counts


@dataclass(slots=True)
class Counter:
    """Amounts in 10^-6 of what the limit counts; `held` in what a caller counts.

    `fired` is the number of thresholds that fired, `overrun` whether an overrun was said, by version of
    the limit. `crossed` is when the amount was passed. `buckets` are a rolling window's. `sequence` is
    that of the last change.
    """

    bounds: Bounds
    posted: int = 0
    fired: dict[str, int] = field(default_factory=dict)
    state: Standing = "ok"
    crossed: int | None = None
    overrun: list[str] = field(default_factory=list)
    drawn: Drawn = field(default_factory=list)
    buckets: dict[int, int] = field(default_factory=dict)
    sequence: int = 0
    flows: list[int] = field(default_factory=lambda: [0] * 7)  # see `flow`
    entry: tuple[str | int, ...] = ()  # derived: its place among what has changed
    held: int = 0  # derived from the leases
    quiet_until: int = 0  # derived: below this nothing happens but counting

    def flow(self, clock: int, amount: int, covered: int) -> None:
        """Count towards the rates; `covered` of it was under a lease.

        `flows` are the second, what was counted in it and in the one before, the same without a lease,
        and the highest second of the last minute with its number.
        """
        flows = self.flows
        slot = clock // RATE_MS
        if slot != flows[0]:
            self._turn_flows(slot)
        flows[1] += amount
        flows[3] += amount - covered

    def _turn_flows(self, slot: int) -> None:
        last, recent, _, loose, _, peak, peaked = self.flows
        if recent >= peak or slot > peaked + PEAK_SLOTS:
            peak, peaked = recent, last
        follows = slot == last + 1
        self.flows[:] = [slot, 0, recent if follows else 0, 0, loose if follows else 0, peak, peaked]

    def rate(self, clock: int) -> int:
        """The highest usage of a second in the last minute."""
        last, recent, before, _, _, peak, peaked = self.flows
        slot = clock // RATE_MS
        rates = [peak] if slot <= peaked + PEAK_SLOTS else [0]
        return max(*rates, *((recent, before) if slot <= last + PEAK_SLOTS else (0,)))

    def loose_rate(self, clock: int) -> int:
        """The usage without a lease of this second or the last: more of it may be on its way."""
        last, _, _, loose, before, _, _ = self.flows
        return max(loose, before) if clock // RATE_MS <= last + 1 else 0

    @property
    def drawn_total(self) -> int:
        """What grants gave to this window."""
        return sum(amount for _, amount in self.drawn)

    def saved(self) -> bytes:
        """The counter as an entry of the journal; amounts can pass 64 bits, so they are text."""
        return msgspec.msgpack.encode(
            (
                *(self.bounds.start, self.bounds.end, str(self.posted), self.fired),
                *(self.state, self.crossed, self.overrun),
                [(grant, str(amount)) for grant, amount in self.drawn],
                [(bucket, str(amount)) for bucket, amount in sorted(self.buckets.items())],
                *(self.sequence, [str(flow) for flow in self.flows]),
            )
        )

    @classmethod
    def restored(cls, raw: bytes) -> "Counter":
        """The counter of an entry."""
        start, end, posted, fired, state, crossed, overrun, drawn, buckets, sequence, flows = (
            msgspec.msgpack.decode(raw)
        )
        return cls(
            Bounds(start, end),
            int(posted),
            fired,
            state,
            crossed,
            overrun,
            [(grant, int(amount)) for grant, amount in drawn],
            {bucket: int(amount) for bucket, amount in buckets},
            sequence,
            [int(flow) for flow in flows],
        )
