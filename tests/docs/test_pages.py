"""Every command and snippet of the documents: the pages are followed literally, in the order of a reader."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.settings import Settings
from tests.docs.pages import DOCS, ROOT, Block, blocks, missing
from tests.docs.shell import Reader
from tests.walk import PROGRAMS, find_command

# In the order in which a reader meets them: each goes on from where the one before ended.
FOLLOWED = [
    "tutorial",
    *(f"how-to/{name}" for name in ("add-a-meter", "change-a-price", "correct-a-mistake", "close-the-month")),
    *(
        f"how-to/{name}"
        for name in ("connect-stripe", "quota-in-your-service", "run-in-production", "recover")
    ),
    "at-scale",
    "command-line",
    "invariants",
    "rating",
]
ALL = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


@pytest.fixture(scope="module")
def reader(local_parts: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader with a folder of their own and a deployment that nobody else uses."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "examples", folder / "examples")
    settings = local_parts.model_copy(
        update={
            "kafka_brokers": local_parts.brokers(),
            "kafka_simulated": local_parts.is_simulated(),
            "clickhouse_url": local_parts.clickhouse(),
            "database": "test_docs",
            "topic_prefix": "docs.",
            "checkpoint_seconds": 0.2,
            "sink_batch_seconds": 0.2,
            "tick_idle_seconds": 86_400.0,  # months close by the usage on the pages, not by today's date
        }
    )
    found = Reader(settings, folder)
    yield found
    found.stop()


def followed() -> list[Block]:
    found = [block for name in FOLLOWED for block in blocks(DOCS / f"{name}.md")]
    return [b for b in found if b.language in ("sh", "python") and not b.says.startswith("not run: ")]


@pytest.mark.timeout(1_500)
def test_the_pages_do_what_they_say(reader: Reader) -> None:
    for block in followed():
        reader.follow(block)


def test_what_a_page_expects_is_compared() -> None:
    assert missing("total … 0.33", "total       0.326") == "total … 0.33"
    assert missing("a\nb", "b a") == "b"
    assert not missing("a … c\nd", "a b  c\n  d")


def words_of(line: str) -> list[str]:
    """The words of one of our commands in a shell line; empty for another command."""
    line = line.split(" #")[0].split("|")[0].split(">")[0].strip().removesuffix(" &").strip()
    words = shlex.split(line) if line.count("'") % 2 == 0 and line.count('"') % 2 == 0 else []
    while words and "=" in words[0]:
        words = words[1:]
    return [Path(words[0]).name, *words[1:]] if words else []


def commands() -> list[tuple[str, list[str]]]:
    found = []
    for page in ALL:
        for block in blocks(page):
            if block.language == "sh":
                for part in block.text.replace("\\\n", " ").replace("&&", "\n").splitlines():
                    words = words_of(part)
                    is_ours = words and words[0] in PROGRAMS and not words[-1].endswith("-completion")
                    if is_ours and "…" not in part:
                        found.append((block.place, words))
    return found


@pytest.mark.parametrize(("place", "words"), commands(), ids=lambda value: str(value)[:60])
def test_every_command_on_a_page_exists(place: str, words: list[str]) -> None:
    find_command(words)


def test_a_block_that_is_not_followed_says_why() -> None:
    silent = []
    for page in ALL:
        is_followed = page.is_relative_to(DOCS) and str(page.relative_to(DOCS))[:-3] in FOLLOWED
        for block in blocks(page):
            if block.language in ("sh", "python") and not block.says.startswith("not run: "):
                silent += [] if is_followed and block.says in ("", "wait", "background") else [block.place]
    assert silent == []
