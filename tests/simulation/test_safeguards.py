"""The simulator can fail: each safeguard is broken in turn, and each time the books are wrong."""

import pytest

from tests.simulation.safeguards import BROKEN, SPARE, Broken
from tests.simulation.simulate import simulate


@pytest.mark.timeout(600)
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
@pytest.mark.slow
def test_a_broken_safeguard_is_caught(broken: Broken) -> None:
    with broken.patched():
        caught = broken.first_wrong()
    assert caught is not None, f"not within {broken.seeds} seeds"
    assert not simulate(caught, focus=broken.focus).verdict.problems, "the seed fails unbroken, too"


def test_the_books_do_not_need_the_insert_token() -> None:
    """Rows replace by key; the token keeps a repeated block from being stored again until they do."""
    with SPARE.patched():
        assert SPARE.first_wrong() is None
