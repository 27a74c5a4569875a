"""What a seed decides: which faults a run has, how often, and each throw of the dice."""

from collections import Counter
from random import Random

PROCESS_FAULTS = {
    "crash": 4,
    "power loss": 2,
    "machine lost": 2,
    "freeze": 5,
    "rebalance": 3,
    "scale": 1,
    "sink crash": 2,
    "sink freeze": 2,
    "broker away": 1,
    "database crash": 2,
    "database lost": 1,
    "compaction": 3,
    "retention": 1,
}


class Chance:
    """The dice of one run, and a count of every fault that happened.

    Each seed switches some kinds of faults off and draws the rate of the others, so that every
    combination of them meets. A `focus` is a run with many faults of these kinds, and of processes with no
    others.
    """

    def __init__(self, seed: int, focus: frozenset[str] = frozenset()) -> None:
        self.random = Random(seed)
        self.counts: Counter[str] = Counter()
        self.is_calm = True
        draw = self.random
        self.kinds = {k: w for k, w in PROCESS_FAULTS.items() if draw.random() < 0.6}
        self.steps_between = draw.choice((100, 200, 400, 1_000))
        if focus:
            self.kinds = {k: w for k, w in PROCESS_FAULTS.items() if k in focus}
            self.steps_between = 60
        self.rates = {
            kind: max(rate, 0.1 * (kind in focus))
            for kind, rate in {
                "request lost": draw.choice((0.0, 0.02, 0.1)),
                "answer lost": draw.choice((0.0, 0.02, 0.1)),
                "request late": draw.choice((0.0, 0.02, 0.05)),
                "request doubled": draw.choice((0.0, 0.02, 0.1)),
                "batch dropped": draw.choice((0.0, 0.02, 0.1)),
                "batch again": draw.choice((0.0, 0.02, 0.1)),
                "batches swapped": draw.choice((0.0, 0.02, 0.1)),
                "seek raced": draw.choice((0.0, 0.5)),
                "queue cleared": draw.choice((0.0, 0.5)),
                "insert refused": draw.choice((0.0, 0.02, 0.1)),
                "insert answer lost": draw.choice((0.0, 0.02, 0.1)),
                "database away": draw.choice((0.0, 0.02)),
                "catalog late": draw.choice((0.0, 0.5, 1.0)),
                "catalog behind": draw.choice((0.0, 0.5)),
                "slow": draw.choice((0.0, 0.02, 0.1)),
                "billing crash": draw.choice((0.0, 0.1, 0.3)),
                "provider lost": draw.choice((0.0, 0.3)),
                "provider answer lost": draw.choice((0.0, 0.3)),
                "provider failed": draw.choice((0.0, 0.3)),
            }.items()
        }

    def hits(self, kind: str) -> bool:
        """Whether this fault happens here and now."""
        rate = self.rates[kind]
        if not rate or self.is_calm or self.random.random() >= rate:
            return False
        self.counts[kind] += 1
        return True

    def next_fault(self) -> int:
        """Steps until the next fault of a process."""
        return 1 + int(self.random.expovariate(1 / self.steps_between))

    def pick_fault(self) -> str | None:
        """The kind of the next fault of a process; None when this seed has none."""
        kinds = list(self.kinds)
        return self.random.choices(kinds, [self.kinds[k] for k in kinds])[0] if kinds else None

    def latency(self) -> float:
        """Virtual seconds that a message takes, mostly a few milliseconds."""
        if self.hits("slow"):
            return self.random.uniform(0.5, 4.0)
        return 0.001 + 0.02 * self.random.random()
