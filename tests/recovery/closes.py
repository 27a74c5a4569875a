"""A close record for tests."""

from metering.records import PeriodClose, version


def close(customer: str, period: str, offset: int, revision: int, watermark: int = 5) -> PeriodClose:
    stamp = str(version(1, offset, revision))
    return PeriodClose(customer, period, "USD", 1, 0, "1.000000", "", watermark, stamp)
