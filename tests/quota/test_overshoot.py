"""The bounds of the documents, on seeds of their own."""

import pytest

from tests.quota.overshoot import MODES, Case, Mode, simulate

SMALL = (Case(1, 200, 400, seconds=2), Case(5, 60, 400, seconds=2), Case(12, 20, 100, seconds=2))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", SMALL)
def test_overshoot_stays_below_its_bound(case: Case, mode: Mode) -> None:
    for seed in (11, 12, 13):
        assert simulate(case, mode, seed).overshoot <= case.bound(mode)


@pytest.mark.parametrize("seed", range(5))
def test_a_client_that_is_behind_does_not_pass_the_limit_where_others_cannot(seed: int) -> None:
    """Records reach it seconds late: its strict zone is as wide as its view is old."""
    case = Case(4, 100, 200, seconds=4, starved_ms=1_500)
    assert simulate(case, "strict zone", seed).overshoot == 0


def test_a_seed_tells_the_same_story_twice() -> None:
    assert simulate(SMALL[1], "strict zone", 5) == simulate(SMALL[1], "strict zone", 5)


def test_without_an_overlay_clients_do_pass_the_limit() -> None:
    assert simulate(SMALL[1], "cached", 11).overshoot > 0
