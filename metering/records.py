"""The records on our own topics: what each carries, in which unit, encoded as JSON.

Quantities and amounts are decimal strings, never JSON numbers: a JSON number loses digits above
2^53 in many readers. Versions are 128-bit integers as decimal strings. Times of events are epoch
milliseconds, hours are epoch seconds of the first second of the hour, UTC.
"""

from typing import Literal, TypeVar

import msgspec

from metering.rating.usage import Aggregation

EPOCH_SHIFT = 96
OFFSET_SHIFT = 32


def version(epoch: int, offset: int, catalog_revision: int = 0) -> int:
    """Pack (epoch, offset, catalog revision) into the 128-bit version of an output.

    A pure function of the input: a replay writes the same version, sinks keep the highest. The offset is
    behind the last record that the output includes; of a charge, behind the last one that touched it.
    """
    assert 0 <= epoch < 1 << 32
    assert 0 <= offset < 1 << 64
    assert 0 <= catalog_revision < 1 << 32
    return epoch << EPOCH_SHIFT | offset << OFFSET_SHIFT | catalog_revision


class HourlyTotal(msgspec.Struct, tag="total", tag_field="kind", frozen=True, omit_defaults=True):
    """The absolute total of one customer, meter, set of dimensions and hour (`usage.hourly`).

    `quantity` is the sum (also of an average: divide by `events`), the extreme, the latest value, or
    the number of unique ones. `values` are what merging needs besides: digests of unique values and
    event sizes with their number (each), prices with their quantity (priced). `last` orders the
    latest value: its event's time (epoch ms) and id. `digest` is the sum of the fingerprints of the
    accepted events modulo 2^64, in hex.
    """

    customer: str
    meter: str
    hour: int
    quantity: str
    events: int
    version: str
    late: int = 0
    dimensions: dict[str, str] = {}
    aggregation: Aggregation = "sum"
    values: dict[str, str] = {}
    last: tuple[int, str] = (0, "")
    digest: str = ""


class Watermark(msgspec.Struct, tag="watermark", tag_field="kind", frozen=True):
    """How far event time has come in one partition of `usage.events` (`usage.hourly`).

    It stands behind every total that it covers, in the same partition. `time` is epoch ms.
    """

    partition: int
    time: int
    version: str


class Approved(msgspec.Struct, frozen=True):
    """Who let a late event count, and why; `at` is epoch ms, the time of the approval."""

    event_id: str
    source: str
    actor: str
    reason: str
    at: int


class Restatement(msgspec.Struct, tag="restatement", tag_field="kind", frozen=True):
    """A closed period that is to be charged again, by name (`usage.hourly`).

    It stands behind the totals that hold the approved events, in the same partition.
    """

    customer: str
    period: str
    approvals: list[Approved]
    version: str


class Slice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a charge: `billed` × `unit_price` + `flat_fee` = `amount`, all exact.

    `units` is the usage that it covers; `billed`, where it differs, is packages or events. Negative
    where a position is taken back. `tier` counts from 1, 0 is included usage; `label` names a cell, a
    meter or a rule.
    """

    tier: int
    units: str
    unit_price: str
    flat_fee: str
    amount: str
    billed: str = ""
    label: str = ""


class Effect(msgspec.Struct, frozen=True):
    """What a conversion, maximum, discount, cap or proration adds to a charge, exact."""

    name: str
    amount: str


class Charge(msgspec.Struct, tag="charge", tag_field="kind", frozen=True, omit_defaults=True):
    """The absolute charge of one price in one hour (`usage.charges`).

    Sum of `slices[].amount` + `effects[].amount` + `rounding` = `amount`; amounts have 6 decimals,
    unit prices up to 12. `quantity_before` and `quantity_after` are cumulative in the price's window.
    `line` is usage, flat, share, discount, cap, true_up or adjustment; an adjustment `corrects` a
    closed period.
    """

    customer: str
    period: str
    price: str
    meter: str
    hour: int
    currency: str
    quantity: str
    quantity_before: str
    quantity_after: str
    amount: str
    rounding: str
    card: str
    card_version: str
    events: int
    slices: list[Slice]
    version: str
    line: str = "usage"
    model: str = ""
    effects: list[Effect] = []
    digest: str = ""
    corrects: str = ""


class RatingError(msgspec.Struct, tag="error", tag_field="kind", frozen=True):
    """Usage that no price covers (`usage.charges`): a row that blocks the bill, never a zero."""

    customer: str
    period: str
    meter: str
    hour: int
    quantity: str
    reason: str
    detail: str
    version: str


class PeriodClose(msgspec.Struct, tag="close", tag_field="kind", frozen=True, omit_defaults=True):
    """A closed billing period of one customer (`usage.charges`), behind its last charge.

    `rows`, `amount` and `digest` describe the charges that must be seen before it is billed;
    `errors` counts rating errors. `watermark` is the epoch ms that closed it. `revision` counts the
    restatements since; `approvals` are those of the last one.
    """

    customer: str
    period: str
    currency: str
    rows: int
    errors: int
    amount: str
    digest: str
    watermark: int
    version: str
    revision: int = 0
    approvals: list[Approved] = []


class DeadLetter(msgspec.Struct, tag="rejected", tag_field="kind", frozen=True):
    """An event that was refused (`usage.rejected`), with its original bytes.

    `index` is the place inside an envelope, -1 for a whole Kafka record. `payload` is encoded as
    base64 by msgspec. `appended` is the broker's append time, epoch ms.
    """

    topic: str
    partition: int
    offset: int
    index: int
    reason: str
    detail: str
    customer: str
    event_id: str
    event_type: str
    appended: int
    payload: bytes
    version: str


class LetterAction(msgspec.Struct, tag="action", tag_field="kind", frozen=True, omit_defaults=True):
    """What a person did about a dead letter (`usage.rejected`): nothing is taken away by it.

    `topic`, `partition`, `offset` and `index` name the letter. A retried one stands again in the
    topic of the events at `sent_partition` and `sent_offset`; of an approved one, its approval does.
    `at` is epoch ms.
    """

    topic: str
    partition: int
    offset: int
    index: int
    action: Literal["retried", "approved", "discarded"]
    actor: str
    reason: str
    at: int
    version: str
    sent_partition: int = -1
    sent_offset: int = -1


class Progress(msgspec.Struct, tag="progress", tag_field="kind", frozen=True):
    """What one fold has done with one partition so far (`pipeline.progress`).

    read = accepted + duplicates + rejected, counted in events since the first offset. `at` is the
    sender's wall clock (epoch ms): a quiet partition keeps reporting, a dead one does not. `usage_at` is
    the append time of the newest usage that its owner has folded (epoch ms), 0 before the first.
    """

    fold: str
    partition: int
    epoch: int
    offset: int
    watermark: int
    read: int
    accepted: int
    duplicates: int
    rejected: int
    late: int
    catalog_revision: int
    instance: str
    at: int
    usage_at: int = 0


Record = (
    HourlyTotal
    | Watermark
    | Restatement
    | Charge
    | RatingError
    | PeriodClose
    | DeadLetter
    | LetterAction
    | Progress
)

RecordT = TypeVar("RecordT", bound=Record)

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Record).decode


def key(*parts: str | int) -> bytes:
    """The key of a compacted record: a JSON array, so that no separator can collide."""
    return msgspec.json.encode(parts)
