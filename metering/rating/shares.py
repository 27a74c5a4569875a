"""Dividing an amount so that the parts add up: largest remainder."""

from collections.abc import Sequence


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Whole parts of `total` in proportion to weights; the rest goes to the largest remainders.

    Ties go to the earlier part. The parts add up to `total` exactly; it may be negative.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        raise ValueError(f"weights must not be negative, and not all 0: {list(weights)}")
    magnitude = abs(total)
    parts = [magnitude * weight // whole for weight in weights]
    left = magnitude - sum(parts)
    order = sorted(range(len(weights)), key=lambda n: (-(magnitude * weights[n] % whole), n))
    for number in order[:left]:
        parts[number] += 1
    return parts if total >= 0 else [-part for part in parts]
