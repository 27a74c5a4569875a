"""Ours and the peers in turn, on the same bytes, on one broker."""

from collections.abc import Iterator

from bench.load import Expected, Load
from bench.measuring import durable
from bench.options import Options
from bench.peers.catalog import PEERS, Peer
from bench.peers.run import prepare, run_peer
from bench.place import World
from bench.results import Found
from bench.rows.fold import OURS, PLAIN
from metering.errors import UserError
from metering.settings import Settings

_COPIES = 0.001  # so that a peer that does not deduplicate is found out
_FEWEST = 20_000

Filled = tuple[Settings, Load, Expected]


def peers(world: World, options: Options) -> Iterator[Found]:
    """Every repeat runs everything once; slow peers get a part of the events, as their row says."""
    chosen = [peer for peer in PEERS if not options.peers or peer.name in options.peers]
    usable = [peer for peer in chosen if _is_ready(world, peer)]
    topics: dict[int, Filled] = {}
    for _ in range(options.repeats):
        yield durable(world, OURS, options.loaded(copies=_COPIES))
        yield durable(world, PLAIN, options.loaded(copies=_COPIES), compiled=False)
        for peer in usable:
            events = max(_FEWEST, int(options.events * peer.share))
            if events not in topics:
                topics[events] = _filled(world, options.loaded(copies=_COPIES, events=events))
            world.tell(f"{peer.title}: {events:,} events")
            yield run_peer(world, peer, *topics[events])


def _is_ready(world: World, peer: Peer) -> bool:
    try:
        prepare(peer)
    except UserError as error:
        world.tell(f"[yellow]{peer.title} is left out:[/] {error}")
        return False
    return True


def _filled(world: World, load: Load) -> Filled:
    deployment, expected = world.deployment(load.partitions), Expected()
    world.fill(deployment, load, expected)
    return deployment, load, expected
