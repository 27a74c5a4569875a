"""The laws of the house, read from the source."""

import ast
from pathlib import Path

import pytest

from metering.settings import Settings

ROOT = Path(__file__).parent.parent
FOLDS = (
    "meter_fold rate_fold measure partitioning dedupe calendar postings totals hourly_table amending"
    " amendments rate_state closed_books corrections settle accounts late quota_part"
    " row_batch row_groups row_measures id_file recent_ids"
).split()
PURE = [
    *sorted((ROOT / "metering" / "rating").glob("*.py")),
    *sorted((ROOT / "metering" / "quota").glob("*.py")),
    *(ROOT / "metering" / "state" / f"{name}.py" for name in FOLDS),
]
AGENTS = sorted((ROOT / "metering" / "agents").glob("*.py"))


def nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text())))


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("file", PURE, ids=lambda f: f.name)
def test_no_float_where_money_is_counted(file: Path) -> None:
    """A float in rating once billed 99.49999 where 99.5 was exact."""
    floats = [
        n.lineno
        for n in nodes(file)
        if (isinstance(n, ast.Constant) and isinstance(n.value, float))
        or (isinstance(n, ast.Name) and n.id == "float")
        or (isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div))
    ]
    assert not floats


@pytest.mark.parametrize("file", PURE, ids=lambda f: f.name)
def test_no_clock_network_or_framework_in_a_fold(file: Path) -> None:
    """A fold that reads a clock places an event elsewhere on a replay."""
    assert not imports(file) & {
        "time",
        "random",
        "faust",
        "aiokafka",
        "clickhouse_connect",
        "stripe",
        "asyncio",
    }
    names = {n.attr for n in nodes(file) if isinstance(n, ast.Attribute)}
    assert not names & {"now", "utcnow", "today"}


@pytest.mark.parametrize("file", AGENTS, ids=lambda f: f.name)
def test_no_arithmetic_in_agents(file: Path) -> None:
    """What is counted is decided by pure functions that can be tested without a broker."""
    assert not [n.lineno for n in nodes(file) if isinstance(n, ast.BinOp | ast.AugAssign)]


PRIVATE = ("._thread", "._drain_messages", "PartitionRecords", "._read_offset", "._getmany")


def test_private_names_stand_only_in_the_transport() -> None:
    """An upgrade of aiokafka or Faust must have one place to look at."""
    for file in (ROOT / "metering").rglob("*.py"):
        if file.name != "transport.py":
            text = file.read_text()
            assert not [name for name in PRIVATE if name in text], file


def test_every_setting_is_documented() -> None:
    assert not [name for name, f in Settings.model_fields.items() if not f.description]
