"""The limit and the program on the front page, as printed: only the address of the broker is another."""

import asyncio
import re
import textwrap
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from metering.catalog.load import load_texts
from metering.catalog.publish import publish
from metering.settings import Settings
from metering.sinks.migrate import migrate
from metering.topics import Names, apply
from tests.demo.world import resumed, wait_for

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
CATALOG = ROOT / "examples" / "llm" / "catalog"
ADDRESS = 'Metering("127.0.0.1:9092")'


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    return str(found)


def limited() -> dict[str, str]:
    """The catalog of the example with the customer of the front page."""
    texts = {file.name: file.read_text() for file in sorted(CATALOG.glob("*.yaml"))}
    customers = texts["customers.yaml"]
    (line,) = re.findall(r"  - \{id: acme-robotics,.*\n", customers)
    return {**texts, "customers.yaml": customers.replace(line, block("yaml"))}


def program(settings: Settings, tokens: str = "1_200") -> Callable[[], Coroutine[None, None, None]]:
    text = block("python")
    assert ADDRESS in text
    here = f"Metering({settings.brokers()!r}, prefix={settings.topic_prefix!r})"
    text = text.replace(ADDRESS, here).replace("1_200", tokens)
    room: dict[str, Any] = {}
    exec(compile("async def main():\n" + textwrap.indent(text, "    "), "README.md", "exec"), room)
    main: Callable[[], Coroutine[None, None, None]] = room["main"]
    return main


@pytest.mark.parts
@pytest.mark.timeout(180)
def test_the_program_on_the_front_page_runs(deployment: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(apply(deployment))
    migrate(deployment.clickhouse(), deployment.database)
    asyncio.run(publish(deployment.brokers(), Names(deployment).catalog, load_texts(limited())))
    with resumed(deployment):
        asyncio.run(program(deployment)())
        wait_for(lambda books: bool(books.charged(time.strftime("%Y-%m", time.gmtime()))), deployment)
        assert "not served: limit_reached" in answered(deployment, capsys)


def answered(deployment: Settings, capsys: pytest.CaptureFixture[str]) -> str:
    """What the program says to more than is left; of a worker that is busy, it hears that later."""
    deadline = time.monotonic() + 90
    while True:
        capsys.readouterr()
        asyncio.run(program(deployment, tokens="2_000_000")())
        said = capsys.readouterr().out
        if "stale" not in said or time.monotonic() > deadline:
            return str(said)
