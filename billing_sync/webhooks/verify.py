"""Whether a webhook is Stripe's: the signature over the raw body, its age, and no future."""

import os
from collections.abc import Sequence
from pathlib import Path

import stripe

from metering.errors import UserError

TOLERANCE_SECONDS = 300


class Forged(Exception):
    """The signature is missing, wrong, too old or from the future."""


def webhook_secrets() -> list[str]:
    """The secrets from STRIPE_WEBHOOK_SECRETS (separated by commas) or the file it names with `_FILE`."""
    file = os.environ.get("STRIPE_WEBHOOK_SECRETS_FILE", "")
    said = Path(file).read_text() if file else os.environ.get("STRIPE_WEBHOOK_SECRETS", "")
    found = [secret.strip() for secret in said.replace("\n", ",").split(",") if secret.strip()]
    if not found:
        raise UserError(
            "no webhook secret is set: anybody could say that an invoice is paid",
            hint="set STRIPE_WEBHOOK_SECRETS, or STRIPE_WEBHOOK_SECRETS_FILE; both while one is replaced",
        )
    return found


def verify(body: bytes, signature: str, secrets: Sequence[str], now: int) -> None:
    """Refuse what none of the secrets has signed within five minutes."""
    try:
        at = int(next(part[2:] for part in signature.split(",") if part.startswith("t=")))
    except (StopIteration, ValueError) as error:
        raise Forged("the signature header has no time") from error
    # The SDK takes times from the future and asks its own clock: both are checked here.
    if abs(now - at) > TOLERANCE_SECONDS:
        raise Forged(f"it was signed {now - at} s ago")
    if not any(_is_signed(body, signature, secret) for secret in secrets):
        raise Forged("no secret of ours has signed it")


def _is_signed(body: bytes, signature: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body.decode(), signature, secret)
    except (stripe.SignatureVerificationError, UnicodeDecodeError):
        return False
    return True
