"""What applications import: ask whether a customer may use something, and say what was used.

    async with Metering("127.0.0.1:9092") as metering:
        allowed = await metering.quotas.check("harbour", "tokens", 1_200)
        if allowed:
            await metering.usage.emit("harbour", "completion", {"tokens": 1_200}, allowed)

`metering.client.blocking.Metering` is the same without `async`.
"""

from metering.client.connection import Metering
from metering.client.quotas import Decision, Quotas, Reservation
from metering.client.usage import Delivery, Usage

__all__ = ["Decision", "Delivery", "Metering", "Quotas", "Reservation", "Usage"]
