"""What the documents say is what the code does."""

import re
from pathlib import Path

from metering.settings import Settings

ROOT = Path(__file__).parent.parent


def test_every_setting_is_on_its_page() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`{field.validation_alias or 'METERING_' + name.upper()}`" in page
        assert (field.description or "") in page


def test_every_reason_for_refusal_is_on_its_page() -> None:
    page = (ROOT / "docs" / "wire-format.md").read_text()
    sources = ["events.py", "state/measure.py", "state/meter_fold.py", "sinks/writer.py"]
    text = "".join((ROOT / "metering" / source).read_text() for source in sources)
    found = set(re.findall(r'(?:Refusal\(|_refuse\(\s*event,)\s*"(\w+)"', text)) | {"sink_refused"}
    assert len(found) > 15
    assert not [reason for reason in found if f"`{reason}`" not in page]


def test_the_readmes_bill_is_the_one_the_demo_is_tested_for() -> None:
    demo = (ROOT / "tests" / "demo" / "test_demo.py").read_text()
    bill = re.search(r'BILL = "([\d.]+)"', demo)
    assert bill is not None
    assert bill[1] in (ROOT / "README.md").read_text()
