"""Minor units as the payment provider counts them, which is not as ISO 4217 does.

Source: Stripe's list of zero-decimal currencies and special cases. ISK is sent with two decimals
but only whole krónur; three-decimal currencies must end in 0.
"""

from decimal import Decimal

from metering.errors import UserError

MICRO_DIGITS = 6
_ZERO = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split()
_THREE = "bhd jod kwd omr tnd".split()
REFUSED = {"ugx": "the provider's documents contradict each other about its minor unit"}

# Stripe's smallest charges, in minor units; an invoice below one would only move to the customer's balance.
# Source: Stripe's table of minimum charge amounts. A currency that is not here has none of its own.
MINIMUM_CHARGE = {
    "AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50,
    "GBP": 30, "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50,
    "PLN": 200, "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip


def exponent_and_step(currency: str) -> tuple[int, int]:
    """Decimals of the minor unit, and the multiple of it that amounts must be."""
    code = currency.lower()
    if code in REFUSED:
        raise UserError(f"{currency} cannot be invoiced: {REFUSED[code]}")
    if code in _ZERO:
        return 0, 1
    if code in _THREE:
        return 3, 10
    return (2, 100) if code == "isk" else (2, 1)


def unit_micro(currency: str) -> int:
    """The smallest amount that can be invoiced, in micro-units of the currency."""
    exponent, step = exponent_and_step(currency)
    return int(10 ** (MICRO_DIGITS - exponent)) * step


def major(minor: int, currency: str) -> Decimal:
    """Minor units in the currency's major unit."""
    exponent, _ = exponent_and_step(currency)
    return Decimal(minor).scaleb(-exponent)
