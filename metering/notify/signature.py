"""Signatures of Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`."""

import base64
import binascii
import hashlib
import hmac

from metering.errors import UserError

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes, from the specification


def secret_bytes(text: str, place: str) -> bytes:
    """A secret, `whsec_` and base64; UserError names the place that it came from, never the secret."""
    try:
        found = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise UserError(f"{place} is not base64", hint=_HINT) from error
    if not _SHORTEST <= len(found) <= _LONGEST:
        raise UserError(f"{place} has {len(found)} bytes, not {_SHORTEST} to {_LONGEST}", hint=_HINT)
    return found


_HINT = "make one: python -c \"import base64,os; print('whsec_'+base64.b64encode(os.urandom(32)).decode())\""


def headers(secret: bytes, message: str, at: int, body: bytes) -> dict[str, str]:
    """The three headers of a delivery; `at` is epoch seconds."""
    signed = b".".join((message.encode(), str(at).encode(), body))
    signature = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{signature}",
    }
