"""Whether processes of a deployment run: their consumer groups have members."""

import asyncio
import time
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from metering.errors import UserError
from metering.settings import Settings

# A process that was stopped stays a member until its session ends, because it may come back.
PATIENCE_SECONDS = 15.0
_PAUSE = 1.0


async def members(brokers: str, group: str) -> list[str]:
    """The names of a group's members; empty when there is no such group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    try:
        await admin.start()
        answers = await admin.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:
        return []  # no group was ever made
    except KafkaError as error:
        raise UserError(
            f"the broker does not say who is in the group {group}: {error!r}",
            hint="is it reachable (`metering local status`)?",
        ) from error
    finally:
        await admin.close()
    return [_name(member) for answer in answers for found in answer.groups for member in found[5]]


def _name(member: tuple[Any, ...]) -> str:
    return next(str(part) for part in member if part)


async def refuse_while_running(settings: Settings, group: str, what: str) -> None:
    """UserError when a group still has members after the time a stopped process counts as one."""
    if settings.is_simulated():
        return  # it cannot be asked
    deadline = time.monotonic() + PATIENCE_SECONDS
    while found := await members(settings.brokers(), group):
        if time.monotonic() > deadline:
            raise UserError(
                f"{len(found)} {what} run: {', '.join(found)}",
                hint=f"stop them, then try again; see group {group}",
            )
        await asyncio.sleep(_PAUSE)
