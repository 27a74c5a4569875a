"""Publishing a catalog: refused when it is broken, skipped when it is already in force."""

from typing import NamedTuple

from aiokafka import AIOKafkaProducer

from metering.catalog.reader import read_latest
from metering.catalog.resolved import Catalog
from metering.catalog.wire import KEY, to_record
from metering.errors import UserError

_RECORD_BYTES = 15 << 20


class Published(NamedTuple):
    """The revision now in force, and whether this call made it."""

    revision: int
    version: str
    is_new: bool


async def publish(brokers: str, topic: str, catalog: Catalog, *, leaves_out: bool = True) -> Published:
    """Put a checked catalog in force for every worker; see `refuse_left_out` for `leaves_out`."""
    latest = await read_latest(brokers, topic)
    if latest is not None and latest.version == catalog.version:
        return Published(latest.revision, latest.version, is_new=False)
    if latest is not None:
        refuse_new_meaning(latest, catalog)
        if not leaves_out:
            refuse_left_out(latest, catalog)
    producer = AIOKafkaProducer(
        bootstrap_servers=brokers,
        acks="all",
        compression_type="gzip",
        max_request_size=_RECORD_BYTES,
    )
    await producer.start()
    try:
        sent = await producer.send_and_wait(topic, to_record(catalog), key=KEY, partition=0)
    finally:
        await producer.stop()
    return Published(sent.offset + 1, catalog.version, is_new=True)


def refuse_new_meaning(old: Catalog, new: Catalog) -> None:
    """What was counted must stay what it is: UserError when a meter or a pool changes under it."""
    for meter in new.content.meters:
        known = old.meter(meter.id)
        mine = new.meter(meter.id)
        if known is None or mine is None:
            continue
        for name in ("event_type", "aggregation", "value_path", "price_path", "filters"):
            was, now = getattr(known, name), getattr(mine, name)
            if was != now:
                raise UserError(
                    f"meter `{meter.id}` counted by {name} {was} and would by {now} from now on",
                    hint="give the new meaning a new meter id",
                )
    for customer in new.content.customers:
        was, now = old.customer(customer.id), new.customer(customer.id)
        if was is not None and now is not None and was.account != now.account:
            raise UserError(
                f"customer `{customer.id}` was rated with `{was.account}` and would be with `{now.account}`",
                hint="its events and totals lie in the partition of the first; add a new customer id instead",
            )


def refuse_left_out(old: Catalog, new: Catalog) -> None:
    """UserError when customers are missing: without terms, what they used in open periods has no price."""
    gone = sorted(c.id for c in old.content.customers if new.customer(c.id) is None)
    if gone:
        more = f" and {len(gone) - 1:,} more" if len(gone) > 1 else ""
        raise UserError(
            f"customer `{gone[0]}`{more} would be left out: usage of open periods would lose its charges",
            hint="give a customer that leaves an `end:`; --leave-out if that is what you want",
        )
