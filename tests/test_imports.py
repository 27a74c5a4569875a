"""What a command imports: a worker that starts needs no ledger, no catalog files, no demo."""

import subprocess
import sys

import pytest

from metering.cli import ROOMS, build

_CODE = "import sys; from metering.cli import build; build({name!r}); print(*sys.modules)"


@pytest.mark.parametrize("name", ["worker", "sink", "migrate", "topics"])
def test_a_process_that_runs_or_sets_up_imports_no_other_room(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(name=(name,))], capture_output=True, text=True, check=True
    )
    assert not {"sqlalchemy", "faust", "pandas", "metering.demo", "billing_sync"} & set(done.stdout.split())


def test_each_command_is_found() -> None:
    for name in ROOMS:
        assert build((name,)).registered_commands or build((name,)).registered_groups
