"""A charge row in words: lines that a support person can read aloud."""

from metering.rating.charge import EXACT
from metering.rating.money import MICRO, format_exact, format_micro
from metering.rating.parts import PART_DECIMALS, TierPart
from metering.rating.rows import ChargeRow


def row_lines(row: ChargeRow) -> list[str]:
    """Each slice, effect and the rounding of a row, then the charge."""
    lines = [part_line(part, row.model) for part in row.slices]
    lines += [f"{name}: {_signed(format_exact(amount, EXACT))}" for name, amount in row.effects]
    if row.rounding:
        lines.append(f"rounding: {_signed(format_exact(row.rounding, EXACT))}")
    lines.append(f"charge: {format_micro(row.amount)}")
    return lines


def part_line(part: TierPart, model: str) -> str:
    """One slice: what was used, what it costs, what that makes."""
    place = part.label or (f"tier {part.tier}" if part.tier else "included")
    if part.label and part.tier > 1:
        place = f"{part.label}, tier {part.tier}"
    amount = format_exact(part.amount, PART_DECIMALS)
    if part.label == "charged":
        return f"charged already: {amount}"
    if not part.billed and not part.units and part.flat_fee:
        return f"{place}: fee {amount}" if not part.label else f"{place}: {amount}"
    units = f"{number(part.units)} units"
    terms = []
    if part.billed:
        what = units if part.billed == part.units else f"{number(part.billed)} billed for {units}"
        terms.append(f"{what} × {format_exact(part.unit_price, 12)}")
    elif part.units and not part.flat_fee:
        terms.append(units)
    if part.flat_fee:
        terms.append(
            f"fee {format_exact(part.flat_fee, MICRO)}" + (f" for {units}" if _is_step(part) else "")
        )
    return f"{place}: {' + '.join(terms) or model} = {amount}"


def _is_step(part: TierPart) -> bool:
    return bool(part.units) and not part.billed


def number(micro: int) -> str:
    """A quantity with thousands separators."""
    text = format_exact(abs(micro), MICRO)
    whole, point, rest = text.partition(".")
    return f"{'-' if micro < 0 else ''}{int(whole):,}{point}{rest}"


def _signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"
