"""How billing stands, as Prometheus metrics of `billing-sync run`; no customer and no invoice is in them."""

from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from billing_sync.ledger import Ledger
from metering.observe.server import taken
from metering.settings import Settings

DONE = ("finalized", "carried", "dropped")


class Standing(NamedTuple):
    """The ledger at one moment: invoices by state; since when (epoch seconds, 0: never) the oldest waits."""

    states: dict[str, int]
    oldest_unsent: int
    parked: int
    oldest_parked: int


NOTHING = Standing({}, 0, 0, 0)


def standing_of(ledger: Ledger) -> Standing:
    """What waits in a ledger, and since when."""
    states, parked = ledger.states(), ledger.parked()
    unsent = _oldest(since for state, (_, since) in states.items() if state not in DONE)
    counts = {state: count for state, (count, _) in states.items()}
    return Standing(counts, unsent, len(parked), _oldest(one.since for one in parked))


def _oldest(times: Iterable[int]) -> int:
    return min(times, default=0)


class Metrics:
    """The families; what was found by the last round stays until the next one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rounds = Counter(
            "metering_billing_rounds_total",
            "Rounds of billing, by outcome: done, or failed because something was away.",
            ["outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "metering_billing_round_seconds",
            "Time of a round.",
            buckets=(0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0),
            registry=self.registry,
        )
        self._last = self._gauge("last_round_timestamp_seconds", "When a round was done last; 0: none yet.")
        self._invoices = Gauge(
            "metering_billing_invoices", "Invoices of the ledger by state.", ["state"], registry=self.registry
        )
        self._unsent = self._gauge(
            "oldest_unsent_timestamp_seconds",
            "Since when the oldest invoice that is not done has stood in its state; 0: all are done.",
        )
        self._parked = self._gauge("parked_periods", "Closed periods that cannot be billed yet.")
        self._oldest_parked = self._gauge(
            "oldest_parked_timestamp_seconds", "Since when the oldest of them has waited; 0: none waits."
        )
        self._drifted = self._gauge("drifted", "Differences that the reconciliation of the last round found.")

    def _gauge(self, name: str, says: str) -> Gauge:
        return Gauge(f"metering_billing_{name}", says, registry=self.registry)

    def serve(self, settings: Settings) -> None:
        """Answer on METERING_METRICS_PORT, if it is set."""
        host, port = settings.metrics_bind, settings.metrics_port
        if not port:
            return
        try:
            start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise taken(host, port, error) from error

    def failed(self) -> None:
        """A round came to nothing."""
        self._rounds.labels("failed").inc()

    def done(self, found: Standing, drifted: int, *, seconds: float, at: float) -> None:
        """A round is done (`at`: epoch seconds)."""
        self._rounds.labels("done").inc()
        self._seconds.observe(seconds)
        self._last.set(at)
        self._invoices.clear()
        for state, count in found.states.items():
            self._invoices.labels(state).set(count)
        self._unsent.set(found.oldest_unsent)
        self._parked.set(found.parked)
        self._oldest_parked.set(found.oldest_parked)
        self._drifted.set(drifted)
