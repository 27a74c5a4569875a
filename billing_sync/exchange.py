"""One writing request exactly once, however often it has to be sent.

- R1: the intent is in the ledger before a request leaves. R2: its id comes from the business fact.
- R3: it is repeated with the same key and the same bytes while that is safe: four hours less than
  the provider remembers keys, and only if it has not failed inside.
- R4: after that it is looked up, 15 minutes after the last attempt at the earliest; what is not
  there is sent under a new key.
- R6: only the sender that holds the customer's claim may send.
"""

from collections.abc import Callable
from hashlib import sha256
from json import dumps
from typing import TypeVar

from billing_sync.ledger import Ledger, Request
from billing_sync.pace import Pace, Waiting
from billing_sync.port import Rejected, Retry, Unknown

QUIET_SECONDS = 15 * 60  # a request that is still under way lands within this time
KEY_MARGIN_SECONDS = 4 * 3_600
TRIES = 8

T = TypeVar("T")


def fingerprint(payload: object) -> str:
    """What a request says, to notice that a repetition would say something else."""
    return sha256(dumps(payload).encode()).hexdigest()[:16]


class Exchange:
    """Requests to one provider, remembered in one ledger."""

    def __init__(self, ledger: Ledger, pace: Pace, clock: Callable[[], int], key_seconds: int) -> None:
        self._ledger = ledger
        self._pace = pace
        self._clock = clock
        self._same_key_seconds = key_seconds - KEY_MARGIN_SECONDS

    @property
    def requests(self) -> int:
        """How many requests were made."""
        return self._pace.requests

    def once(
        self,
        customer: str,
        request_id: str,
        payload: str,
        call: Callable[[str], str],
        find: Callable[[], str | None],
    ) -> str:
        """Do it, or find that it is done; the provider's id of what it made."""
        known = self._ledger.request(request_id)
        if known is not None and known.state == "done":
            return known.external
        epoch = known.epoch if known else 0
        if known is not None and known.state != "again" and not self._is_same_key_safe(known, payload):
            self._wait_quiet(known.last_sent)
            found = self.read(find)
            if found is not None:
                self._ledger.done(request_id, found)
                return found
            epoch += 1
        return self._try(customer, request_id, payload, epoch, call)

    def _try(
        self, customer: str, request_id: str, payload: str, epoch: int, call: Callable[[str], str]
    ) -> str:
        for attempt in range(TRIES):
            try:
                external = self._pace.ask(lambda: self._send(customer, request_id, payload, epoch, call))
            except Retry:
                self._pace.rest(attempt)
                continue
            except Unknown as error:
                self._ledger.saw_5xx(request_id)
                text = f"{error}; looked up again {QUIET_SECONDS // 60} minutes after the attempt"
                raise Waiting(text) from error
            except Rejected:
                self._ledger.send_again(request_id)  # its key repeats the refusal for a day
                raise
            self._ledger.done(request_id, external)
            return external
        raise Waiting(f"no answer after {TRIES} tries; the next round goes on")

    def _send(
        self, customer: str, request_id: str, payload: str, epoch: int, call: Callable[[str], str]
    ) -> str:
        self._ledger.intend(request_id, epoch, payload, self._clock(), customer)
        return call(f"{request_id}:{epoch}")

    def _is_same_key_safe(self, known: Request, payload: str) -> bool:
        is_fresh = self._clock() - known.first_sent < self._same_key_seconds
        return is_fresh and not known.saw_5xx and known.payload == payload

    def _wait_quiet(self, last_sent: int) -> None:
        left = last_sent + QUIET_SECONDS - self._clock()
        if left > 0:
            raise Waiting(f"the provider failed inside; looked up in {left} s")

    def read(self, call: Callable[[], T]) -> T:
        """A reading request, repeated while the provider does not answer."""
        for attempt in range(TRIES):
            try:
                return self._pace.ask(call)
            except (Retry, Unknown):
                self._pace.rest(attempt)
        raise Waiting(f"no answer after {TRIES} tries; the next round goes on")
