"""What customers subscribed to at the provider, into the catalog stream; the ledger is where it comes from.

A round looks at the catalog in force: one that has it already is left alone, one that was published
without it gets it again.
"""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka.errors import KafkaError

from billing_sync.config import BillingConfig
from billing_sync.ledger import Subscribed
from billing_sync.subscriptions import with_subscriptions
from metering.catalog.publish import publish
from metering.catalog.reader import read_latest
from metering.catalog.resolved import resolve
from metering.errors import UserError
from metering.settings import Settings
from metering.topics import Names

log = structlog.get_logger()


def tell_catalog(settings: Settings, subscriptions: Sequence[Subscribed], config: BillingConfig) -> None:
    """Publish the catalog with the subscriptions in it; billing goes on when that is not possible now."""
    if not subscriptions:
        return
    try:
        unfit = asyncio.run(_publish(settings, subscriptions, config))
    except (KafkaError, OSError, UserError) as error:
        log.warning("the catalog does not know the latest subscriptions yet", reason=str(error))
        return
    for text in unfit:
        log.warning("a subscription does not fit into the catalog", reason=text)


async def _publish(
    settings: Settings, subscriptions: Sequence[Subscribed], config: BillingConfig
) -> list[str]:
    topic = Names(settings).catalog
    latest = await read_latest(settings.brokers(), topic)
    if latest is None:
        return ["there is no catalog yet"]
    content, unfit = with_subscriptions(latest.content, subscriptions, config)
    await publish(settings.brokers(), topic, resolve(content))
    return unfit
