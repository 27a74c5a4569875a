"""The program on the front page, as printed: only the address of the broker is another."""

import asyncio
import re
import textwrap
import time
from pathlib import Path

import pytest

from metering.catalog.load import load_folder
from metering.catalog.publish import publish
from metering.settings import Settings
from metering.sinks.migrate import migrate
from metering.topics import Names, apply
from tests.demo.world import resumed, wait_for

ROOT = Path(__file__).parent.parent.parent
ADDRESS = 'Metering("127.0.0.1:9092")'


@pytest.mark.parts
@pytest.mark.timeout(180)
def test_the_program_on_the_front_page_runs(deployment: Settings) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert ADDRESS in program
    here = f"Metering({deployment.brokers()!r}, prefix={deployment.topic_prefix!r})"
    source = "async def main():\n" + textwrap.indent(program.replace(ADDRESS, here), "    ")
    asyncio.run(apply(deployment))
    migrate(deployment.clickhouse(), deployment.database)
    catalog = load_folder(ROOT / "examples" / "llm" / "catalog")
    asyncio.run(publish(deployment.brokers(), Names(deployment).catalog, catalog))
    room: dict[str, object] = {}
    exec(compile(source, "README.md", "exec"), room)
    main = room["main"]
    assert callable(main)
    with resumed(deployment):
        asyncio.run(main())
        wait_for(lambda books: bool(books.charged(time.strftime("%Y-%m", time.gmtime()))), deployment)
