"""Requests in the ledger: the intent before one leaves, what came back, and who may send."""

from typing import NamedTuple

from billing_sync.ledger.store import Store

CLAIM_SECONDS = 300  # longer than one request with its pauses; a dead sender's customers wait this long


class Request(NamedTuple):
    """A request in the ledger; times are epoch seconds, `payload` its fingerprint.

    `state`: inflight, done, or again (it was undone on purpose: send it anew under its epoch).
    """

    epoch: int
    state: str
    payload: str
    first_sent: int
    last_sent: int
    saw_5xx: bool
    external: str


class ClaimLost(Exception):
    """Another sender has taken this customer over."""


class Requests(Store):
    """One row a writing request; one claim a customer that is being sent."""

    def request(self, request_id: str) -> Request | None:
        """A request by our id."""
        found = self.rows(
            "SELECT epoch, state, payload, first_sent, last_sent, saw_5xx, external FROM request"
            " WHERE id = :id",
            id=request_id,
        )
        if not found:
            return None
        epoch, state, payload, first, last, saw_5xx, external = found[0]
        return Request(epoch, state, payload, first, last, bool(saw_5xx), external)

    def intend(self, request_id: str, epoch: int, payload: str, now: int, customer: str = "") -> None:
        """Commit the intent before the request leaves; only the holder of the customer may."""
        with self.transaction():
            if customer:
                self._renew(customer, now)
            self.run(
                "INSERT INTO request (id, epoch, state, payload, first_sent, last_sent)"
                " VALUES (:id, :epoch, 'inflight', :payload, :now, :now) ON CONFLICT (id) DO UPDATE SET"
                " first_sent = CASE WHEN request.epoch = excluded.epoch AND request.state = 'inflight'"
                " THEN request.first_sent ELSE excluded.first_sent END,"
                " saw_5xx = CASE WHEN request.epoch = excluded.epoch THEN request.saw_5xx ELSE 0 END,"
                " epoch = excluded.epoch, state = 'inflight', payload = excluded.payload,"
                " last_sent = excluded.last_sent",
                id=request_id,
                epoch=epoch,
                payload=payload,
                now=now,
            )

    def saw_5xx(self, request_id: str) -> None:
        """The provider failed inside: its key replays that answer for a day."""
        self.run("UPDATE request SET saw_5xx = 1 WHERE id = :id", id=request_id)

    def done(self, request_id: str, external: str) -> None:
        """The provider has done it."""
        self.run(
            "UPDATE request SET state = 'done', external = :external WHERE id = :id",
            id=request_id,
            external=external,
        )

    def send_again(self, prefix: str) -> None:
        """What these requests made is gone, on purpose: they start anew under the next epoch."""
        self.run(
            "UPDATE request SET state = 'again', epoch = epoch + 1, saw_5xx = 0, external = ''"
            " WHERE substr(id, 1, :length) = :prefix",
            prefix=prefix,
            length=len(prefix),
        )

    def claim(self, customer: str, now: int) -> bool:
        """Become the one that sends for a customer, unless another living sender is."""
        with self.transaction():
            self.run(
                "INSERT INTO claim (customer, holder, until) VALUES (:customer, '', 0)"
                " ON CONFLICT (customer) DO NOTHING",
                customer=customer,
            )
            taken = self.run(
                "UPDATE claim SET holder = :holder, until = :until"
                " WHERE customer = :customer AND (holder = :holder OR until <= :now)",
                customer=customer,
                holder=self.holder,
                until=now + CLAIM_SECONDS,
                now=now,
            )
        return taken.rowcount == 1

    def _renew(self, customer: str, now: int) -> None:
        renewed = self.run(
            "UPDATE claim SET until = :until WHERE customer = :customer AND holder = :holder",
            customer=customer,
            holder=self.holder,
            until=now + CLAIM_SECONDS,
        )
        if renewed.rowcount != 1:
            raise ClaimLost(customer)

    def release(self, customer: str) -> None:
        """Let others send for this customer."""
        self.run(
            "UPDATE claim SET until = 0 WHERE customer = :customer AND holder = :holder",
            customer=customer,
            holder=self.holder,
        )
