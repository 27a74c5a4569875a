"""The processes of a deployment: the real worker and the real sink, wired as the apps wire them."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NoReturn

from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError

from metering.errors import UserError
from metering.sink import Sink
from metering.state.journal import Replaced
from metering.worker import Worker
from tests.simulation.group import Member
from tests.simulation.loop import PROCESS, Died, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

CHECKPOINT = (0.3, 0.8, 2.5)  # seconds; small and large cuts of the same log
PROGRESS, AWAKE, FLUSH = 3.0, 2.0, 1.0
LARGEST_SKEW_MS = 7_200_000
EXPECTED = ("cannot be read", "refused a statement")  # errors of a broker or database that is away


def is_expected(error: BaseException | None) -> bool:
    """Whether a process may end with this error when the parts around it fail."""
    if isinstance(error, UserError):
        return any(text in str(error) for text in EXPECTED)
    return error is None or isinstance(
        error, KafkaError | ClickHouseError | OSError | TimeoutError | Replaced
    )


async def every(world: "World", seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """A timer of an app."""
    while True:
        await asyncio.sleep(seconds * (0.7 + 0.6 * world.chance.random.random()))
        await work()


def die(world: "World", event: str, error: object) -> NoReturn:
    """End the process that asks for it, as `os._exit` does."""
    process = PROCESS.get(None)
    if process is None:
        raise Died  # what is cleared away of one that is dead already
    world.note(process.name, f"dies: {event} {error}")
    world.end(process, sys.exc_info()[1])
    raise Died


async def worker(world: "World", process: Process) -> None:
    """One metering worker."""
    process.skew_ms = world.chance.random.randint(-LARGEST_SKEW_MS, LARGEST_SKEW_MS)
    made = Worker(world.settings.model_copy(update={"instance": process.name}))
    names = made.names
    member = Member(world.workers, process, made, [{names.events}, {names.hourly}])
    made.consumer = member
    world.lives[process] = member
    await made.start()
    world.workers.join(member)

    async def report() -> None:
        await made.report_progress()
        if world.ticks:
            await made.tick_idle()

    async def stay_awake() -> None:
        made.stay_awake()

    process.spawn(every(world, world.chance.random.choice(CHECKPOINT), made.checkpoint_all))
    process.spawn(every(world, PROGRESS, report))
    process.spawn(every(world, AWAKE, stay_awake))


async def sink(world: "World", process: Process) -> None:
    """One sink process."""
    made = Sink(world.settings.model_copy(update={"instance": process.name}))
    names = made.names
    results = {names.hourly, names.charges, names.rejected, names.progress}
    member = Member(world.sinks, process, made, [{names.events}, results])
    made.consumer = member
    world.lives[process] = member
    world.sinks.join(member)
    process.spawn(made.follow_catalog())
    process.spawn(every(world, FLUSH, made.flush_all))
