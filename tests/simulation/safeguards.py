"""The engine's safeguards, each broken as a careless change would: a simulator that sees nothing is none."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, NamedTuple
from unittest.mock import patch
from weakref import WeakKeyDictionary

from faust.types import TP

from billing_sync import books
from billing_sync.exchange import Exchange
from metering import topics
from metering.sink import SINK, Pending, Sink
from metering.sinks.rows import Row, TableRow
from metering.sinks.writer import Origin, Stretch
from metering.state import dedupe
from metering.state.checkpoint import DurableFold, Verdict
from metering.state.dedupe import SeenIds
from metering.state.fold import Changes, Chunk
from metering.state.rate_state import RateState
from metering.worker import Worker
from tests.simulation.database import Table
from tests.simulation.simulate import simulate


class Broken(NamedTuple):
    """A safeguard and what stands in its place; one of `seeds` seeds, at the latest, must show it."""

    name: str
    owner: Any
    attribute: str
    instead: Any
    seeds: int = 20
    focus: frozenset[str] = frozenset()

    def patched(self) -> Any:
        """Break it for a while."""
        return patch.object(self.owner, self.attribute, self.instead)

    def first_wrong(self) -> int | None:
        """The first seed, as things are now, whose books are wrong; None when all are right."""
        wrong = (seed for seed in range(self.seeds) if simulate(seed, focus=self.focus).verdict.is_wrong)
        return next(wrong, None)


def _focus(*kinds: str) -> frozenset[str]:
    return frozenset(kinds)


# -- positions -----------------------------------------------------------------------------------


async def trust_the_group(worker: Worker, tp: TP) -> int:
    """Go on from the offset that was committed, with whatever state there is."""
    member, durable = worker.consumer, worker._owned[tp]
    offset = member.group.committed.get(tp, 0)
    durable.fold.offset = offset or None
    return int(offset)


def fold_over_a_gap(durable: DurableFold, chunks: Sequence[Chunk], catalog: Any) -> Verdict:
    """Skip what is covered, but do not miss what is missing."""
    offset = durable.fold.offset
    fresh = [c for c in chunks if offset is None or c.next > offset]
    if not fresh:
        return Verdict.COVERED
    first = fresh[0] if offset is None else fresh[0].after(offset)
    durable.fold.offset = first.first
    durable.fold.fold([first, *fresh[1:]], catalog)
    return Verdict.FOLDED


def fold_again(durable: DurableFold, chunks: Sequence[Chunk], catalog: Any) -> Verdict:
    """Fold whatever comes, covered or not."""
    offset = durable.fold.offset
    if offset is not None and chunks[0].first > offset:
        return Verdict.GAP
    durable.fold.offset = chunks[0].first
    durable.fold.fold(chunks, catalog)
    return Verdict.FOLDED


# -- the checkpoint ------------------------------------------------------------------------------


async def publish_before_journal(durable: DurableFold) -> int | None:
    """Tell the world first, and journal only once in a while: it saves requests."""
    async with durable._lock:
        changes = durable.fold.changes()
        if changes is None:
            return durable.saved_offset
        snapshot = durable._snapshot()
        durable._store.write(changes)
        await durable._publisher.publish_results(durable.partition, changes.outputs)
        waiting = _unwritten.setdefault(durable, [])
        waiting.append(changes)
        if len(waiting) == 3 or durable.saved_offset is None:
            for one in waiting:
                await durable._journal.append(durable.partition, one)
            waiting.clear()
        durable._store.settle(changes, durable._journal.known(durable.partition))
        durable.saved_offset, durable.saved = changes.offset, snapshot
        return changes.offset


_unwritten: WeakKeyDictionary[DurableFold, list[Changes]] = WeakKeyDictionary()


async def settle_before_publish(durable: DurableFold) -> int | None:
    """Strike the outputs off before they are on Kafka."""
    async with durable._lock:
        changes = durable.fold.changes()
        if changes is None:
            return durable.saved_offset
        snapshot = durable._snapshot()
        durable._store.write(changes)
        await durable._journal.append(durable.partition, changes)
        durable._store.settle(changes, durable._journal.known(durable.partition))
        await durable._publisher.publish_results(durable.partition, changes.outputs)
        durable.saved_offset, durable.saved = changes.offset, snapshot
        return changes.offset


# -- identities and versions ---------------------------------------------------------------------

_numbers = count()


def never_the_same(texts: Iterable[bytes]) -> list[bytes]:
    """Identities that no other copy has."""
    return [next(_numbers).to_bytes(12) for _ in texts]


def forget_ids(seen: SeenIds, _segments: object, newest_day: int, *_: object) -> None:
    """Take back a state without its ids."""
    seen._newest_day = newest_day


def keep_the_last(state: RateState, slot: Any, use: Any, _version: int) -> bool:
    """Take whatever total came last."""
    return _keep(state, slot, use, next(_numbers))


_keep = RateState.keep


async def any_catalog(worker: Worker, _revision: int = 0) -> Any:
    """Go on with the catalog that is there."""
    return await _wait_for_catalog(worker)


_wait_for_catalog = Worker._wait_for_catalog


# -- the database and the sink -------------------------------------------------------------------


def last_insert_wins(_table: Table, _row: Row, _held: Row) -> bool:
    """Replace without a look at the version."""
    return True


def place_of_its_own(_table: Table, _row: Row) -> tuple[Any, ...]:
    """Rows that replace nothing, as in a plain MergeTree."""
    return (next(_numbers),)


def token_of_the_moment(origin: Origin, table: str) -> str:
    """A token that no second try repeats."""
    return f"{table}:{origin.first}:{next(_numbers)}"


async def position_before_rows(sink: Sink, held: Sequence[tuple[TP, Pending]]) -> None:
    """Store how far the rows go before the rows."""
    stretches = [
        Stretch(Origin(*tp, pending.first, pending.next - 1), pending.take()) for tp, pending in held
    ]
    for (_, pending), (origin, _) in zip(held, stretches, strict=True):
        place = (SINK, origin.topic, origin.partition, origin.last + 1)
        await sink.writer.write([TableRow("sink_progress", place)], origin)
        pending.stored(origin.last + 1)
    await sink.writer.store(stretches)


# -- billing -------------------------------------------------------------------------------------


def no_problem(*_: object) -> str:
    """Bill whatever is there."""
    return ""


def send_again(
    exchange: Exchange,
    customer: str,
    request_id: str,
    payload: str,
    call: Callable[[str], str],
    _find: object,
) -> str:
    """Repeat a request under a key of its own, whatever the ledger says."""
    return exchange._try(customer, request_id, payload, next(_numbers), call)


_SAVING = _focus("crash", "power loss", "machine lost", "answer lost", "slow")
_STORING = _focus("sink crash", "sink freeze", "database crash", "insert refused", "insert answer lost")
_BILLING = _focus("billing crash", "provider failed", "provider answer lost")
_AWAY = _focus("retention", "machine lost")
_LATE = _focus("request late", "request doubled")

BROKEN = (
    Broken("seek to the state's position", Worker, "_start_of", trust_the_group),
    Broken("gap check", DurableFold, "offer", fold_over_a_gap),
    Broken("covered check", DurableFold, "offer", fold_again),
    Broken("journal before output", DurableFold, "checkpoint", publish_before_journal, 200, _SAVING),
    Broken("pending until published", DurableFold, "checkpoint", settle_before_publish, 400, _SAVING),
    Broken("deduplication", dedupe, "fingerprints", never_the_same),
    Broken("ids are part of the state", SeenIds, "restore", forget_ids),
    Broken("ids outlive the oldest event", topics, "_EVENT_DAYS", 1, 60, _AWAY),
    Broken("version order in the rate fold", RateState, "keep", keep_the_last, 300, _LATE),
    Broken("catalog not older than the state", Worker, "_wait_for_catalog", any_catalog, 200),
    Broken("version order in the database", Table, "is_newer", last_insert_wins, 150, _LATE),
    Broken("rows replace by key", Table, "place_of", place_of_its_own),
    Broken("rows before their position", Sink, "_store_in_order", position_before_rows, 60, _STORING),
    Broken("a close agrees with its rows", books, "_problem", no_problem, 60, _STORING),
    Broken("one key for one request", Exchange, "once", send_again, 100, _BILLING),
)
# Without it a block is stored as often as it is sent; the books stay right, because rows replace by key.
SPARE = Broken("insert token", Origin, "token", token_of_the_moment, 20, _STORING)
