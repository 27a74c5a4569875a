"""What goes wrong with whole processes and parts, at a step that the seed chooses."""

from collections.abc import Callable
from functools import partial

from metering.topics import specs
from metering.worker import Worker
from tests.simulation.group import SESSION_SECONDS, Owner
from tests.simulation.loop import Process
from tests.simulation.world import World

LONGEST_SLEEP = 25.0

AIMED = ("crash", "power loss", "machine lost", "freeze")
LONGEST_AIM = 300


def is_saving(owner: Owner) -> bool:
    """Whether a worker is in the middle of a checkpoint."""
    return isinstance(owner, Worker) and any(durable._lock.locked() for durable in owner._owned.values())


class Faults:
    """Strikes between two steps of the scheduler until it is told to stop."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._random = world.chance.random
        names = world.names
        self._compacted = {names.hourly, names.charges, names.progress, names.meter_state, names.rate_state}

        self._kind: str | None = None
        self._aimed = 0  # steps that a fault still waits for the middle of a checkpoint

    def begin(self) -> None:
        """From now on anything may happen."""
        self.world.chance.is_calm = False
        self.world.loop.interrupt = self._strike
        self._next()

    def end(self) -> None:
        """From now on nothing fails, and what slept wakes up."""
        world = self.world
        world.chance.is_calm = True
        world.loop.interrupt_at = -1
        world.broker.away_until = 0.0
        for process in list(world.lives):
            if process.frozen_at is not None:
                self._thaw(process)

    def _next(self) -> None:
        self.world.loop.interrupt_at = self.world.loop.steps + self.world.chance.next_fault()

    def _strike(self) -> None:
        if self._kind is None:
            self._kind = self.world.chance.pick_fault()
            self._aimed = LONGEST_AIM if self._kind in AIMED and self._random.random() < 0.5 else 0
        if self._aimed and not self._inside():
            self._aimed -= 1
            self.world.loop.interrupt_at = self.world.loop.steps + 1
            return
        if self._kind is not None and _ACTS[self._kind](self):
            self.world.chance.counts[self._kind] += 1
            self.world.note("fault", self._kind)
        self._kind = None
        self._next()

    def _inside(self) -> list[Process]:
        """The workers that are in the middle of a checkpoint."""
        found = self.world.running("worker")
        return [p for p in found if is_saving(self.world.lives[p].owner)]

    def _one(self, kind: str) -> Process | None:
        found = (self._aimed and self._inside()) or self.world.running(kind)
        return self._random.choice(found) if found else None

    # -- one method a kind; each says whether it did something -----------------------------------

    def crash(self, kind: str) -> bool:
        """A process ends; its disk stays."""
        process = self._one(kind)
        if process is None:
            return False
        self.world.note(process.name, "is killed")
        process.kill()
        return True

    def lose_power(self) -> bool:
        """A machine starts again with what was synced."""
        process = self._one("worker")
        if process is None:
            return False
        self.world.disks[process.name].lose_power()
        process.kill()
        return True

    def lose_machine(self) -> bool:
        """A machine is gone with its disk."""
        process = self._one("worker")
        if process is None:
            return False
        self.world.disks[process.name].erase()
        process.kill()
        return True

    def freeze(self, kind: str) -> bool:
        """A process sleeps, perhaps long enough to be replaced, and goes on where it was."""
        process = self._one(kind)
        if process is None:
            return False
        process.freeze()
        world, member = self.world, self.world.lives[process]
        later = partial(world.loop.call_later, context=world.loop.outside)
        later(SESSION_SECONDS, self._miss, process)
        later(LONGEST_SLEEP * self._random.random(), self._thaw, process)
        world.note(member.process.name, "sleeps")
        return True

    def _miss(self, process: Process) -> None:
        slept = process.frozen_at
        member = self.world.lives.get(process)
        if member is not None and slept is not None and self.world.loop.now - slept >= SESSION_SECONDS:
            member.group.leave(member)

    def _thaw(self, process: Process) -> None:
        member = self.world.lives.get(process)
        if member is None or process.frozen_at is None:
            return
        self.world.note(process.name, "wakes up")
        if member.has_joined and member not in member.group.members:
            process.spawn(member.notice())
        process.thaw(self._random)

    def rebalance(self) -> bool:
        """Partitions move."""
        self._random.choice((self.world.workers, self.world.sinks)).stir()
        return True

    def scale(self) -> bool:
        """A worker leaves as one that was told to; it comes back like any other."""
        process = self._one("worker")
        if process is None:
            return False
        member = self.world.lives[process]

        async def leave() -> None:
            await member.leave()
            process.kill()

        process.spawn(leave())
        return True

    def broker_away(self) -> bool:
        """Nobody reaches the broker for a while."""
        self.world.broker.away_until = self.world.loop.now + 12 * self._random.random()
        return True

    def database_crash(self) -> bool:
        """The database starts again with what was synced."""
        self.world.books.crash()
        return True

    def database_lost(self) -> bool:
        """The database is lost; the sinks are stopped before an empty one takes its place."""
        world = self.world
        if not world.books.tables:
            return False
        world.books.lose()

        def migrate() -> None:
            for process in list(world.lives):
                if process.name.startswith("sink"):
                    process.kill()
            world.books.migrate()

        world.loop.call_later(0.5 + 3 * self._random.random(), migrate, context=world.loop.outside)
        return True

    def compaction(self) -> bool:
        """The broker compacts."""
        self.world.broker.compact(self._compacted)
        return True

    def retention(self) -> bool:
        """The broker deletes id segments that are too old; events never lie about for 40 days."""
        topic = self.world.names.meter_segments
        (spec,) = (spec for spec in specs(self.world.settings) if spec.name == topic)
        self.world.broker.expire(topic, int(spec.config["retention.ms"]))
        return True


_ACTS: dict[str, Callable[[Faults], bool]] = {
    "crash": partial(Faults.crash, kind="worker"),
    "power loss": Faults.lose_power,
    "machine lost": Faults.lose_machine,
    "freeze": partial(Faults.freeze, kind="worker"),
    "rebalance": Faults.rebalance,
    "scale": Faults.scale,
    "sink crash": partial(Faults.crash, kind="sink"),
    "sink freeze": partial(Faults.freeze, kind="sink"),
    "broker away": Faults.broker_away,
    "database crash": Faults.database_crash,
    "database lost": Faults.database_lost,
    "compaction": Faults.compaction,
    "retention": Faults.retention,
}
