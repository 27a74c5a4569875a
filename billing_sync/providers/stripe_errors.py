"""The SDK's errors as what the sender has to decide."""

from collections.abc import Callable
from typing import TypeVar

import stripe

from billing_sync.port import Halt, Limited, Rejected, Retry, Unknown

T = TypeVar("T")


def ask(work: Callable[[], T]) -> T:
    """One request to Stripe; an error says what follows from it."""
    try:
        return work()
    except stripe.StripeError as error:
        raise _meaning(error) from error


def _meaning(error: stripe.StripeError) -> Exception:
    status, text = error.http_status or 0, str(error.user_message or error)
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return Halt(text)
    if isinstance(error, stripe.RateLimitError):
        return Limited(text)
    if isinstance(error, stripe.APIConnectionError) or status == 409:
        # No answer, or the first one is still being worked on: the same key makes a repetition harmless.
        return Retry(text)
    if isinstance(error, stripe.IdempotencyError):
        return Unknown(f"another request used our key: {text}")
    if status >= 500 or status == 200 or isinstance(error, stripe.APIError):
        return Unknown(f"Stripe answered {status}: {text}")
    return Rejected(f"{text} ({error.code or status})", error.code or "")
