"""Catalog files: every mistake at once, with file and line; the example is clean."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from metering.catalog.load import CatalogError, load_folder, load_texts
from metering.catalog.wire import from_record, to_record

ROOT = Path(__file__).parent.parent.parent
CASES = yaml.safe_load((Path(__file__).parent / "mistakes.yaml").read_text())


@pytest.mark.parametrize("case", [pytest.param(c, id=c["title"]) for c in CASES])
def test_a_mistake_is_reported_at_its_line(case: dict[str, Any]) -> None:
    with pytest.raises(CatalogError) as caught:
        load_texts(case["files"])
    found = [str(mistake) for mistake in caught.value.mistakes]
    for wanted in case["mistakes"]:
        assert any(wanted in one for one in found), found


def test_mistakes_of_all_files_are_reported_together() -> None:
    texts = {f"{n}.yaml": text for n, c in enumerate(CASES) for text in c["files"].values()}
    with pytest.raises(CatalogError) as caught:
        load_texts(texts)
    assert len(caught.value.mistakes) >= len(CASES)


def test_the_example_is_a_catalog() -> None:
    catalog = load_folder(ROOT / "examples" / "llm" / "catalog")
    assert len(catalog.content.customers) == 12


def test_a_record_and_back_is_the_same_catalog() -> None:
    catalog = load_folder(ROOT / "examples" / "llm" / "catalog")
    again = from_record(to_record(catalog), offset=6)
    assert (again.version, again.revision) == (catalog.version, 7)
    assert again.terms("acme-robotics") == catalog.terms("acme-robotics")


def test_a_record_that_was_changed_is_refused() -> None:
    catalog = load_folder(ROOT / "examples" / "llm" / "catalog")
    with pytest.raises(ValueError, match="hash"):
        from_record(to_record(catalog).replace(b"0.000015", b"0.000016"), offset=0)


def test_the_order_of_files_does_not_change_the_version() -> None:
    folder = ROOT / "examples" / "llm" / "catalog"
    texts = {f.name: f.read_text() for f in folder.glob("*.yaml")}
    turned = dict(reversed(texts.items()))
    assert load_texts(texts).version == load_texts(turned).version


def test_an_hour_at_the_switch_has_the_new_price() -> None:
    catalog = load_folder(ROOT / "examples" / "llm" / "catalog")
    terms = catalog.terms("acme-robotics")
    assert terms is not None
    old, new = terms.agreement.segments("input")
    assert old.ends == new.starts
    assert old.origin.version != new.origin.version
