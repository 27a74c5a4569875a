"""Rating: pure integer arithmetic from cumulative quantities to charges that explain themselves."""

from metering.rating.cards import Model, Price, Segment, Tier
from metering.rating.charge import TierPart, charge
from metering.rating.hourly import HourCharge, Unpriced, hourly_charges

__all__ = [
    "HourCharge",
    "Model",
    "Price",
    "Segment",
    "Tier",
    "TierPart",
    "Unpriced",
    "charge",
    "hourly_charges",
]
