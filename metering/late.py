"""Late usage that waits for a person: what waits, and the approvals that let it count."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
from aiokafka.errors import KafkaError

from metering.catalog.resolved import Catalog
from metering.errors import UserError
from metering.events import Refusal, UsageEvent
from metering.producer import UsageProducer
from metering.redrive import action_of, not_taken, record
from metering.rejected import Filter, Letter, Letters, Place
from metering.settings import Settings
from metering.state.dead_letters import LETTER_PAYLOAD_BYTES
from metering.state.late import APPROVE
from metering.state.measure import measure
from metering.topics import Names

As = Literal["adjustment", "restatement"]
_TOGETHER = 500  # approvals of one record: their period is restated once
_RECORD_BYTES = 4 << 20
_MOST = 100_000


class Waiting(NamedTuple):
    """A late event that waits; `waits` is `pending restatement` or `quarantined`."""

    place: Place
    appended: datetime
    waits: str
    customer: str
    source: str
    event_id: str
    event_type: str
    time: datetime
    period: str
    data: str

    @property
    def default(self) -> As:
        """What the policy of its meter makes of an approval."""
        return "restatement" if self.waits == "pending restatement" else "adjustment"


class Order(NamedTuple):
    """Who approves, why, when (epoch ms) and as what; None is what the policy of the meter says."""

    actor: str
    reason: str
    at: int
    how: As | None = None


def waiting(
    client: Any, *, customer: str = "", period: str = "", event_ids: Iterable[str] = ()
) -> list[Waiting]:
    """The late events that wait, the oldest usage first."""
    rows = client.query(
        "SELECT k_topic, k_partition, k_offset, k_index, appended, waits, customer, source, event_id,"
        " event_type, time, period, data FROM late_waiting"
        " WHERE ({customer:String} = '' OR customer = {customer:String})"
        " AND ({period:String} = '' OR period = {period:String})"
        " AND (empty({ids:Array(String)}) OR event_id IN {ids:Array(String)})"
        " ORDER BY customer, time, source, event_id, appended",
        parameters={"customer": customer, "period": period, "ids": list(event_ids)},
    ).result_rows
    return [Waiting(Place(*row[:4]), *row[4:]) for row in rows]


def of_meter(found: Iterable[Waiting], meter: str, catalog: Catalog) -> list[Waiting]:
    """Those that a meter counts."""
    if catalog.meter(meter) is None:
        raise UserError(f"the catalog has no meter `{meter}`", hint="run `metering catalog show`")
    return [one for one in found if meter in _meters(one, catalog)]


def _meters(one: Waiting, catalog: Catalog) -> set[str]:
    at = int(one.time.timestamp() * 1_000)
    data = msgspec.json.decode(one.data)
    event = UsageEvent(one.event_id, one.source, one.event_type, customer=one.customer, data=data, at=at)
    measures = measure(event, catalog)
    return set() if isinstance(measures, Refusal) else {m.meter.id for m in measures}


def by_event(found: Iterable[Waiting]) -> dict[tuple[str, str, str], list[Waiting]]:
    """The copies of each event that waits, the first one in front."""
    events: defaultdict[tuple[str, str, str], list[Waiting]] = defaultdict(list)
    for one in found:
        events[one.customer, one.source, one.event_id].append(one)
    return dict(events)


async def approve(
    settings: Settings, client: Any, catalog: Catalog, found: list[Waiting], order: Order
) -> dict[int, int]:
    """Send the approvals, then record them beside every copy; where the record of it ends, by partition.

    The approvals of one customer and period travel in one record, so that the period is restated once.
    """
    letters = _letters(settings, client, found)
    groups: defaultdict[tuple[str, str], list[list[Waiting]]] = defaultdict(list)
    for copies in by_event(found).values():
        groups[copies[0].customer, copies[0].period].append(copies)
    actions = []
    try:
        async with UsageProducer(settings.brokers(), Names(settings).events) as producer:
            for (customer, _), events in groups.items():
                for first in range(0, len(events), _TOGETHER):
                    some = events[first : first + _TOGETHER]
                    value = _record_of([copies[0] for copies in some], letters, order)
                    key = catalog.account_of(customer).encode()
                    (sent,) = await producer.deliver([(key, value)])
                    actions += [
                        action_of(
                            settings, letters[one.place][0], "approved", order.actor, order.reason, sent
                        )
                        for copies in some
                        for one in copies
                    ]
    except KafkaError as error:
        raise not_taken(error) from error
    return await record(settings, actions)


def _letters(settings: Settings, client: Any, found: list[Waiting]) -> dict[Place, tuple[Letter, bytes]]:
    letters = Letters(client, Names(settings).events)
    wanted = Filter(states=("open",), places=tuple(one.place for one in found))
    held: dict[Place, tuple[Letter, bytes]] = {}
    for payloads in letters.payloads(letters.find(wanted, _MOST)):
        held |= {letter.place: (letter, payload) for letter, payload in payloads.items()}
    return held


def _record_of(events: list[Waiting], letters: Mapping[Place, tuple[Letter, bytes]], order: Order) -> bytes:
    made = [_approval(one, letters[one.place][1], order) for one in events]
    value = msgspec.json.encode(made)
    if len(value) > _RECORD_BYTES and len(events) > 1:
        raise UserError(
            f"the approvals of {len(events):,} events are {len(value):,} bytes",
            hint="approve fewer at a time, by their ids",
        )
    return value


def _approval(one: Waiting, payload: bytes, order: Order) -> dict[str, Any]:
    """The event goes along as its very bytes: its content must be the one that waits."""
    if len(payload) == LETTER_PAYLOAD_BYTES:
        raise UserError(
            f"only a part of event `{one.event_id}` is kept", hint="send it again from its place in Kafka"
        )
    data = {"actor": order.actor, "reason": order.reason, "as": order.how or one.default}
    return {
        "id": f"approval:{one.source}:{one.event_id}:{order.at}",
        "customer": one.customer,
        "source": "metering/late",
        "type": APPROVE,
        "time": order.at,
        "data": {**data, "event": msgspec.Raw(payload)},
    }
