"""The edges of the integers: decimal text in, decimal text out; a float is refused.

Inside, quantities and amounts are integers of 10^-n; outside they are plain decimal strings.
"""

from decimal import Decimal, InvalidOperation

MICRO = 6


def parse_decimal(text: str | int | Decimal, decimals: int) -> int:
    """An exact decimal as an integer of 10^-decimals; more decimals or a float are errors."""
    if isinstance(text, bool) or not isinstance(text, str | int | Decimal):
        raise TypeError(f"write {text!r} as text or an integer: a {type(text).__name__} is not exact")
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a decimal number") from error
    if not number.is_finite():
        raise ValueError(f"{text!r} is not a finite number")
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    if exponent + decimals > 60:
        raise ValueError(f"{text!r} is too large")
    mantissa = int("".join(map(str, digits)))
    if exponent + decimals >= 0:
        value: int = mantissa * 10 ** (exponent + decimals)
    else:
        value, rest = divmod(mantissa, 10 ** min(-(exponent + decimals), len(digits) + 1))
        if rest:
            raise ValueError(f"{text} has more than {decimals} decimals; it is not rounded")
    return -value if sign else value


def parse_quantity(text: str | int | Decimal, scale: int) -> int:
    """A quantity as an integer of 10^-scale units."""
    return parse_decimal(text, scale)


def format_exact(value: int, decimals: int) -> str:
    """An integer of 10^-decimals as plain text, without exponent and trailing zeros."""
    text = _fixed(value, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_quantity(value: int, scale: int) -> str:
    """A quantity of 10^-scale units as plain text."""
    return format_exact(value, scale)


def format_micro(amount: int) -> str:
    """Micro-units as text with exactly 6 decimals, e.g. `41.327119`."""
    return _fixed(amount, MICRO)


def _fixed(value: int, decimals: int) -> str:
    if type(value) is not int:
        raise TypeError(f"expected an integer of 10^-{decimals}, not {value!r}")
    sign = "-" if value < 0 else ""
    digits = str(abs(value)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else sign + digits
