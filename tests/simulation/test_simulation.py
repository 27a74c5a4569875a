"""Hundreds of seeds end with right books, and a seed replays to the byte."""

import os
import subprocess
import sys

import pytest

from tests.simulation.chance import PROCESS_FAULTS, Chance
from tests.simulation.run import outcomes
from tests.simulation.simulate import Outcome, simulate

SEEDS = 200


@pytest.fixture(scope="module")
def runs() -> list[Outcome]:
    return list(outcomes(0, SEEDS))


@pytest.mark.timeout(600)
def test_whatever_fails_the_books_are_those_of_the_naive_model(runs: list[Outcome]) -> None:
    told = [f"make simulate SEED={o.seed}: {o.verdict.problems[0]}" for o in runs if o.verdict.problems]
    assert not told


@pytest.mark.timeout(600)
def test_every_kind_of_fault_happens(runs: list[Outcome]) -> None:
    """A fault that never happens proves nothing."""
    happened = {kind for o in runs for kind in o.faults}
    assert happened == {*PROCESS_FAULTS, *Chance(0).rates}


def test_a_seed_replays_to_the_byte() -> None:
    first, second = (simulate(7, verbose=True) for _ in range(2))
    assert (first.digest, first.trace) == (second.digest, second.trace)
    assert simulate(8, verbose=True).digest != first.digest


def test_a_seed_replays_in_another_process_with_other_hashes() -> None:
    """A set that is walked in the order of its hashes would show here."""
    told = set()
    for hashes in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation.run", "--seed", "11"]
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        told.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(told) == 1
