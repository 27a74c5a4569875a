"""The three copies of a partition's state: the local folder, the journal on Kafka, the log itself."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from metering.epochs import latest_epoch
from metering.errors import UserError
from metering.recovery.evidence import meter_schedule, recorded_closes, stages_of
from metering.recovery.history import Catalogs, Unavailable, every_catalog
from metering.recovery.logs import read_chunks
from metering.recovery.refold import Place, Publish, Refolded, refold_meter, refold_rate
from metering.settings import Settings
from metering.state import opening
from metering.state.fold import Output, Saved
from metering.state.log_bounds import LogBounds
from metering.state.meter_fold import MeterFold
from metering.state.publish import Publisher
from metering.state.store import Store
from metering.topics import Names


@dataclass(frozen=True)
class Part:
    """One partition of one fold."""

    topic: str
    partition: int
    fold: str

    def __str__(self) -> str:
        return f"{self.fold}, partition {self.partition}"


class Copies:
    """Reads the copies of a deployment's states; use it as `async with Copies.of(settings)`."""

    def __init__(self, settings: Settings, catalogs: Catalogs) -> None:
        self.settings = settings
        self.names = Names(settings)
        self.catalogs = catalogs
        self.publisher = Publisher(settings.brokers())  # not started: nothing is written here
        self.bounds = LogBounds(settings.brokers())

    @classmethod
    @asynccontextmanager
    async def of(cls, settings: Settings) -> AsyncIterator["Copies"]:
        """Copies with every catalog revision that can still be found."""
        copies = cls(settings, Catalogs(await every_catalog(settings)))
        try:
            yield copies
        finally:
            await copies.bounds.close()

    def parts(self, only: int | None = None) -> list[Part]:
        """Every partition of both folds, or one partition of each."""
        count = self.settings.partitions
        if only is not None and not 0 <= only < count:
            raise UserError(f"there is no partition {only}", hint=f"partitions are 0 to {count - 1}")
        chosen = range(count) if only is None else [only]
        folds = ((self.names.events, "meter"), (self.names.hourly, "rate"))
        return [Part(topic, partition, fold) for topic, fold in folds for partition in chosen]

    def folder(self, part: Part) -> Path:
        """The state folder of this instance."""
        return opening.state_folder(self.settings, part.topic, part.partition)

    def local(self, part: Part) -> Saved | None:
        """The state in the local folder; None when there is none."""
        folder = self.folder(part)
        if not (folder / "CURRENT").exists():
            return None
        store = Store.reading(folder, opening.identity(self.settings, part.topic, part.partition))
        try:
            saved = store.load()
            return saved and saved._replace(entries=list(saved.entries), segments=list(saved.segments))
        finally:
            store.close()

    async def journal(self, part: Part) -> tuple[Saved, list[Output]] | None:
        """The state in the journal, with its pending outputs; None when it is empty."""
        journal = opening.journal(self.settings, self.publisher, part.topic)
        return await journal.read(part.partition, self.settings.epoch)

    async def log(self, part: Part, positions: list[Place], publish: Publish | None = None) -> Refolded:
        """The states at some places, folded again from the log; Unavailable when its beginning is gone."""
        latest = await latest_epoch(self.settings)
        if latest is not None and latest.epoch == self.settings.epoch:
            raise Unavailable(f"customers have moved here with epoch {latest.epoch}, from another log")
        first, end = await self.bounds.of(part.topic, part.partition)
        if first > 0:
            raise Unavailable(f"the log begins at {first:,}: the broker has deleted what was before")
        positions = [place for place in positions if 0 < place[0] <= end]
        if not positions:
            return Refolded()
        return await self._refold(part, positions, publish)

    async def _refold(self, part: Part, positions: list[Place], publish: Publish | None) -> Refolded:
        last = max(offset for offset, _ in positions)
        log = read_chunks(self.settings.brokers(), part.topic, part.partition, 0, last)
        self.settings.home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="refold-", dir=self.settings.home) as folder:
            fold = opening.new_fold(self.settings, part.topic, part.partition, Path(folder))
            if isinstance(fold, MeterFold):
                times = self.catalogs.times()
                schedule = await meter_schedule(self.settings, self.bounds, part.partition, times)
                return await refold_meter(fold, log, positions, schedule, self.catalogs, publish)
            closes = await recorded_closes(self.settings, self.bounds, part.partition)
            return await refold_rate(fold, log, positions, stages_of(closes), self.catalogs, publish)
