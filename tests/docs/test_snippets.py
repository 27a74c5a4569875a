"""What a page shows and nobody types: YAML, JSON and SQL are read by the code that they are meant for."""

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from billing_sync.config import read_config
from metering.catalog.load import load_texts
from metering.events import Refusal, decode_values
from metering.invariants.metrics import Metrics
from metering.notify.config import NotifyConfig
from metering.rating import load_card
from metering.settings import Settings
from metering.sinks.client import connect
from tests.client.test_readme import limited
from tests.docs.pages import DOCS, ROOT, Block, blocks
from tests.docs.test_pages import ALL
from tests.quota.scenario import Run
from tests.quota.world import METERS

Check = Callable[[str, Path], object]


def usage_event(text: str, _: Path) -> None:
    (found,) = decode_values([text.encode()])
    assert not isinstance(found.event, Refusal), found.event


def prices(text: str, _: Path) -> None:
    for one in yaml.safe_load(text):
        load_card(one["price"])


def billing_file(text: str, folder: Path) -> None:
    (folder / "billing.yaml").write_text(text)
    read_config(folder / "billing.yaml")


def alerts(text: str, _: Path) -> None:
    known = {family.name for family in Metrics().registry.collect()}
    for rule in yaml.safe_load(text):
        assert set(rule) >= {"alert", "expr"}
        assert set(re.findall(r"metering_\w+", rule["expr"])) <= known


# In the order of the page. A block that has no check here fails: a page shows nothing that nobody reads.
CHECKS: dict[str, list[Check]] = {
    "README.md": [lambda *_: load_texts(limited())],
    "docs/wire-format.md": [usage_event, usage_event, usage_event],
    "docs/rating.md": [prices, lambda text, _: load_texts({"meters.yaml": text})],
    "docs/quotas.md": [
        lambda text, _: load_texts({"meters.yaml": METERS, "limits.yaml": text}),
        lambda text, _: Run(yaml.safe_load(text)).run(),
    ],
    "docs/notifications.md": [lambda text, _: NotifyConfig.model_validate(yaml.safe_load(text))],
    "docs/billing.md": [billing_file],
    "docs/invariants.md": [alerts],
}


def shown(page: Path) -> list[Block]:
    """Blocks in a language that are no programs and no output."""
    return [b for b in blocks(page) if b.language not in ("", "text") and not b.is_program]


@pytest.mark.parametrize("page", [page for page in ALL if shown(page)], ids=lambda page: page.name)
def test_what_a_page_shows_is_valid(page: Path, tmp_path: Path) -> None:
    checks = CHECKS.get(str(page.relative_to(ROOT)), [])
    for block, check in zip(shown(page), checks, strict=True):
        check(block.text, tmp_path)


def programs() -> list[Block]:
    return [block for page in ALL for block in blocks(page) if block.language == "python"]


def test_a_call_gives_what_the_comment_behind_it_says() -> None:
    found = 0
    for block in programs():
        for call, value in re.findall(r"^(\w+\(.*\))  # (Decimal\(.*\))$", block.text, re.MULTILINE):
            room: dict[str, object] = {}
            exec(compile(block.text, block.place, "exec"), room)
            assert repr(eval(call, room)) == value
            found += 1
    assert found


def test_the_statements_for_a_cluster_are_sql(local_parts: Settings) -> None:
    (block,) = (b for b in blocks(DOCS / "at-scale.md") if "cluster.py" in b.text)
    program = re.search(r"<<'EOF'\n(.*?)^EOF$", block.text, re.MULTILINE | re.DOTALL)
    assert program is not None
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(program[1], block.place, "exec"), {})
    statements = [one.strip() for one in said.getvalue().split(";\n") if one.strip()]
    assert len(statements) > 10
    with connect(local_parts.clickhouse(), "default") as client:
        for statement in statements:
            client.query("SELECT formatQuery({sql:String})", parameters={"sql": statement})
