"""The schemas on the page are those of the code, and the page says all that they hold."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.quota.topic_schemas import FOLDER, files

PAGE = (FOLDER.parent / "quota-topics.md").read_text()


def test_the_folder_holds_what_is_made() -> None:
    held = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert held == files(), "run `python -m tests.quota.topic_schemas`"


@pytest.mark.parametrize("file", [name for name in files() if name.startswith("quota.")])
def test_every_field_is_described(file: str) -> None:
    schema: dict[str, Any] = json.loads((FOLDER / file).read_text())
    fields = {name for one in schema["$defs"].values() for name in one["properties"]}
    assert len(fields) > 5
    assert not sorted(name for name in fields if f"`{name}`" not in PAGE)


def test_a_field_that_says_its_format_is_left_out_in_the_first() -> None:
    """Its default is 1 for good: a reader takes a record without it for one of format 1."""
    for name in files():
        if name.startswith("quota."):
            schema = json.loads((FOLDER / name).read_text())
            formats = [one["properties"]["v"] for one in schema["$defs"].values() if "v" in one["properties"]]
            assert all(v["default"] == 1 for v in formats)


def test_every_file_that_the_page_names_is_there() -> None:
    names = set(re.findall(r"`((?:docs|tests|examples)/[\w./-]+)`", PAGE))
    assert len(names) > 5
    assert not [name for name in names if not (Path(FOLDER).parent.parent / name).exists()]
