"""Rating: pure integer arithmetic from cumulative quantities to charges that explain themselves.

For programs: `load_card`, `charge`, `hourly_charges` and `explain` take Decimals, integers or text
and refuse floats. The modules below them work on integers; see docs/rating.md.
"""

from metering.rating.api import Card, HourCharge, charge, explain, hourly_charges, load_card

__all__ = ["Card", "HourCharge", "charge", "explain", "hourly_charges", "load_card"]
