"""Every command and snippet of the documents: the pages are followed literally, in the order of a reader."""

import shlex
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, blocks, missing
from tests.docs.shell import Reader
from tests.walk import PROGRAMS, find_command


def named(names: str) -> list[Path]:
    return [ROOT / f"{name}.md" for name in names.split()]


# In the order in which a reader meets them: each goes on from where the one before ended.
FRONT = named("README docs/web docs/recovery")
FOLLOWED = named(
    """docs/tutorial docs/how-to/add-a-meter docs/how-to/change-a-price docs/how-to/correct-a-mistake
    docs/how-to/close-the-month docs/how-to/connect-stripe docs/rating docs/billing docs/invariants
    docs/operations docs/how-to/quota-in-your-service docs/how-to/run-in-production docs/how-to/recover
    docs/quotad docs/notifications docs/dashboards docs/at-scale docs/command-line docs/testing"""
)
ALL = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def follow(reader: Reader, pages: list[Path]) -> None:
    for block in (block for page in pages for block in blocks(page) if block.is_run):
        reader.follow(block)


@pytest.mark.timeout(1_500)
def test_the_front_page_does_what_it_says(newcomer: Reader) -> None:
    follow(newcomer, FRONT)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_the_pages_do_what_they_say(reader: Reader) -> None:
    follow(reader, FOLLOWED)


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
    followed = {str(page.relative_to(ROOT)) for page in (*FRONT, *FOLLOWED)}
    every = [block for page in ALL for block in blocks(page) if block.is_run]
    assert [block.place for block in every if block.page not in followed] == []


def test_every_comment_before_a_block_means_something() -> None:
    assert {block.place: block.unknown for page in ALL for block in blocks(page) if block.unknown} == {}
