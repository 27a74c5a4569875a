"""Sending one planned invoice, so that a crash or a lost answer anywhere is harmless.

- The intent is in the ledger before a request leaves (R1); its id comes from the plan (R2).
- It is repeated with the same key and the same bytes while that is safe: 20 hours, no 5xx (R3).
- After that it is looked up first, and after a 5xx only once 15 minutes are over (R4).
- The draft's lines are read back and compared before it is finalized; a difference blocks it.
"""

import json
import random
import time
from collections.abc import Callable
from hashlib import sha256
from typing import TypeVar

from billing_sync.ledger import Entry, Ledger
from billing_sync.planner import Plan
from billing_sync.port import Halt, HeldInvoice, Provider, Rejected, Retry, Unknown

SAME_KEY_SECONDS = 20 * 3_600  # Stripe keeps keys for at least 24 h
QUIET_SECONDS = 15 * 60  # a request that is still under way lands within this time
TRIES = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0

T = TypeVar("T")
Clock = Callable[[], int]
Sleep = Callable[[float], None]


class Waiting(Exception):
    """Cannot go on now; the next run does."""


class Sender:
    """Sends planned invoices to one provider."""

    def __init__(
        self,
        ledger: Ledger,
        provider: Provider,
        *,
        clock: Clock = lambda: int(time.time()),
        sleep: Sleep = time.sleep,
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._clock = clock
        self._sleep = sleep

    def send(self, entry: Entry, name: str, external_customer: str) -> None:
        """Bring one invoice as far as it can go; its state in the ledger says how far."""
        plan = entry.plan
        try:
            self._send(plan, name, external_customer)
        except Rejected as error:
            self._ledger.set_state(plan.id, "blocked", reason=f"refused: {error}")
        except Waiting as error:
            self._ledger.set_state(plan.id, "unknown", reason=str(error))
        except Halt:
            self._ledger.set_state(plan.id, "planned", reason="the provider refused our key")
            raise

    def _send(self, plan: Plan, name: str, external_customer: str) -> None:
        if len(plan.lines) > self._provider.lines_per_invoice:
            raise Rejected(f"{len(plan.lines)} lines are more than one invoice holds")
        customer = external_customer or self._customer(plan, name)
        self._ledger.set_state(plan.id, "inflight")
        draft = self._request(
            f"{plan.id}:draft",
            plan,
            lambda key: self._provider.create_draft(customer, plan, key),
            lambda: _external(self._provider.find_invoice(customer, plan)),
        )
        held = self._provider_call(lambda: self._provider.get_invoice(draft))
        if held.status == "draft":
            self._add_lines(plan, draft)
            self._ledger.set_state(plan.id, "delivered", external=draft)
        self._verify(plan, draft)
        self._ledger.set_state(plan.id, "verified", external=draft)
        self._finalize(plan, draft)

    def _customer(self, plan: Plan, name: str) -> str:
        found = self._provider_call(lambda: self._provider.find_customer(plan.customer))
        if found is not None:
            return found
        return self._request(
            f"customer_{sha256(plan.customer.encode()).hexdigest()[:40]}",
            (plan.customer, name),
            lambda key: self._provider.create_customer(plan.customer, name, key),
            lambda: self._provider.find_customer(plan.customer),
        )

    def _add_lines(self, plan: Plan, draft: str) -> None:
        size = self._provider.lines_per_call
        for start in range(0, len(plan.lines), size):
            lines = plan.lines[start : start + size]

            def add(key: str, lines: tuple[object, ...] = lines) -> str:
                self._provider.add_lines(draft, plan, lines, key)  # type: ignore[arg-type]  # bound now
                return draft

            def find(lines: tuple[object, ...] = lines) -> str | None:
                held = {line.id for line in self._provider.lines(draft)}
                return draft if {line.id for line in lines} <= held else None  # type: ignore[attr-defined]  # bound now

            self._request(f"{plan.id}:lines:{start}", plan, add, find)

    def _verify(self, plan: Plan, draft: str) -> None:
        """Every line once, with its amount, and nothing else."""
        held = self._provider_call(lambda: self._provider.lines(draft))
        wanted = sorted((line.id, line.minor) for line in plan.lines)
        if sorted(held) != wanted:
            ids = [line.id for line in held]
            foreign = [i for i in ids if i not in {line.id for line in plan.lines}]
            raise Rejected(
                f"the draft {draft} holds {len(held)} lines, {len(wanted)} were planned;"
                f" not ours: {foreign}; compare it with `billing-sync status` and void it"
            )

    def _finalize(self, plan: Plan, draft: str) -> None:
        def look() -> str | None:
            invoice = self._provider.get_invoice(draft)
            return invoice.external if invoice.status != "draft" else None

        self._request(
            f"{plan.id}:finalize",
            plan,
            lambda key: self._provider.finalize(draft, key).external,
            look,
        )
        invoice = self._provider_call(lambda: self._provider.get_invoice(draft))
        if invoice.total != plan.minor:
            raise Rejected(f"invoice {draft} came to {invoice.total}, {plan.minor} was planned")
        self._ledger.set_state(plan.id, "finalized", external=draft, number=invoice.number)

    def _request(
        self,
        request_id: str,
        payload: object,
        call: Callable[[str], str],
        find: Callable[[], str | None],
    ) -> str:
        """Do one writing request exactly once, however often it has to be sent."""
        fingerprint = sha256(json.dumps(payload).encode()).hexdigest()[:16]
        known = self._ledger.request(request_id)
        if known is not None and known.state == "done":
            return known.external
        epoch = known.epoch if known else 0
        if known is not None and not self._is_same_key_safe(known.first_sent, known.saw_5xx):
            self._wait_quiet(known.last_sent)
            found = self._provider_call(find)
            if found is not None:
                self._ledger.done(request_id, found)
                return found
            epoch += 1
        return self._try(request_id, fingerprint, epoch, call)

    def _try(self, request_id: str, fingerprint: str, epoch: int, call: Callable[[str], str]) -> str:
        pause = _FIRST_PAUSE
        for _ in range(TRIES):
            self._ledger.intend(request_id, epoch, fingerprint, self._clock())
            try:
                external = call(f"{request_id}:{epoch}")
            except Retry:
                self._sleep(pause * random.random())
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            except Unknown as error:
                self._ledger.saw_5xx(request_id)
                raise Waiting(
                    f"{error}; looked up again {QUIET_SECONDS // 60} minutes after the attempt"
                ) from error
            self._ledger.done(request_id, external)
            return external
        raise Waiting(f"no answer after {TRIES} tries; the next run goes on")

    def _is_same_key_safe(self, first_sent: int, saw_5xx: bool) -> bool:
        return not saw_5xx and self._clock() - first_sent < SAME_KEY_SECONDS

    def _wait_quiet(self, last_sent: int) -> None:
        left = last_sent + QUIET_SECONDS - self._clock()
        if left > 0:
            raise Waiting(f"the provider failed inside; looked up in {left} s")

    def _provider_call(self, call: Callable[[], T]) -> T:
        """A reading request, repeated while the provider does not answer."""
        pause = _FIRST_PAUSE
        for _ in range(TRIES):
            try:
                return call()
            except (Retry, Unknown):
                self._sleep(pause * random.random())
                pause = min(pause * 2, _LONGEST_PAUSE)
        raise Waiting(f"no answer after {TRIES} tries; the next run goes on")


def _external(held: HeldInvoice | None) -> str | None:
    return held.external if held else None
