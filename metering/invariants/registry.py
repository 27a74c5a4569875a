"""Every invariant, in the order in which a broken one is best understood."""

from metering.invariants.base import Invariant
from metering.invariants.charges import CardVersions, ChargesInSql, HourlyFromArchive, RowsExplained
from metering.invariants.closed import ClosedPeriods, Invoiced, Remainders
from metering.invariants.counts import DeadLetters, NothingRefused, Outcomes
from metering.invariants.positions import (
    PartitionsReport,
    PositionsForward,
    SinkStores,
    SinkWithinLog,
    WatermarkForward,
)
from metering.invariants.whole import ChargesByHour

ALL: tuple[Invariant, ...] = (
    PartitionsReport(),
    PositionsForward(),
    WatermarkForward(),
    SinkWithinLog(),
    SinkStores(),
    Outcomes(),
    DeadLetters(),
    NothingRefused(),
    HourlyFromArchive(),
    ChargesInSql(),
    ChargesByHour(),
    RowsExplained(),
    CardVersions(),
    ClosedPeriods(),
    Invoiced(),
    Remainders(),
)
