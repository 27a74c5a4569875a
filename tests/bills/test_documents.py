"""The bill as page, PDF and CSV, from books on the real engine."""

import csv
import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal, localcontext
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pypdf import PdfReader
from typer.testing import CliRunner

from metering.bills import wording
from metering.bills.csv import COLUMNS, as_csv
from metering.bills.document import BillDocument, bill_document
from metering.bills.html import as_html
from metering.bills.pdf import as_pdf
from metering.cli import app
from metering.errors import UserError
from metering.rating.rows import Kind
from metering.records import Approved, Charge, PeriodClose, RatingError
from metering.settings import Settings
from metering.sinks.client import connect
from tests.bills.books import ROOT, STAMP, catalog_of, changed, put, rows_of, saas, store

BILLS: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "saas" / "bills.yaml").read_text())["bills"]
HOSTILE = "=cmd|' /C calc'!A0 \"><script>alert(1)</script> {{7*7}} \u202eevil 🦦 مرحبا 株式会社"
CATALOG = f"""
meters: [{{id: calls, event_type: call, aggregation: sum, value: n, scale: 2}}]
rate_cards:
  - id: card
    currency: EUR
    versions:
      - from: 2026-01-01T00:00:00Z
        prices:
          - {{id: calls, meter: calls, model: unit, unit_price: "0.0000007"}}
plans: [{{id: plan, name: Plan, rate_card: card}}]
customers:
  - {{id: berlin, plan: plan, currency: EUR, start: 2026-01-01T00:00:00Z, zone: Europe/Berlin,
     name: {json.dumps(HOSTILE, ensure_ascii=False)}}}
"""
EVENT = {
    "id": "1",
    "customer": "berlin",
    "type": "call",
    "time": "2026-11-02T10:00:00Z",
    "data": {"n": "1.23"},
}
USAGE = json.dumps(EVENT).encode()


@pytest.fixture(scope="module")
def settings(local_parts: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return local_parts.model_copy(
        update={
            "kafka_brokers": local_parts.brokers(),
            "clickhouse_url": local_parts.clickhouse(),
            "home": tmp_path_factory.mktemp("bills"),
            "database": "bills",
        }
    )


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Any]:
    with connect(settings.clickhouse(), "default") as opened:
        opened.command("DROP DATABASE IF EXISTS bills")
    saas(settings)
    (charge,) = (r for r in put(settings, catalog_of(CATALOG), "usage.jsonl", USAGE) if isinstance(r, Charge))
    less = {"amount": "-0.000001", "rounding": "-0.000001", "slices": []}
    adjustment = changed(charge, price="calls@2026-10", line="adjustment", corrects="2026-10", **less)
    missing = RatingError(
        "berlin", "2026-11", "gb", charge.hour, "2.5", "no_price", "card has no `gb`", STAMP
    )
    approval = Approved("e7", "src", "ines", "agreed with the customer", 1_796_300_000_000)
    figures = (2, 1, "0.000000", "d" * 16, 1_796_200_000_000, STAMP, 1)
    closed = PeriodClose("berlin", "2026-11", "EUR", *figures, [approval])
    store(settings, rows_of([adjustment, missing, closed]))
    with connect(settings.clickhouse(), settings.database) as opened:
        yield opened


def bill_of(
    client: Any, settings: Settings, customer: str = "berlin", period: str = "2026-11"
) -> BillDocument:
    found = bill_document(client, settings, customer, period)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def bill(client: Any, settings: Settings) -> BillDocument:
    return bill_of(client, settings)


def pdf_text(content: bytes) -> str:
    """What a reader of the PDF copies from it."""
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)


def number(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("−", "-"))


@pytest.mark.parts
@pytest.mark.parametrize("customer", BILLS)
def test_the_csv_adds_up_to_the_bill_worked_out_by_hand(
    client: Any, settings: Settings, customer: str
) -> None:
    bill = bill_of(client, settings, customer, "2026-10")
    rows = list(csv.DictReader(io.StringIO(as_csv(bill))))
    with localcontext() as context:
        context.prec = 80
        assert sum(Decimal(row["amount"]) for row in rows) == bill.total
    assert bill.total == sum(Decimal(str(amount)) for amount in BILLS[customer]["lines"].values())


@pytest.mark.parts
def test_every_amount_of_the_books_is_on_the_page(client: Any, settings: Settings) -> None:
    bill = bill_of(client, settings, "otter-ferries", "2026-10")
    cells = re.findall(r"([\d,−]+\.\d\d)<span class=\"micro\">(\d{4})</span>", as_html(bill))
    found = [number(a + b) for a, b in cells]
    assert found == [bill.total, *(line.amount for line in bill.charges), bill.total]


@pytest.mark.parts
def test_the_period_is_told_in_the_customers_zone(bill: BillDocument) -> None:
    page = as_html(bill)
    assert "2026-11-01 01:00 CET" in page
    assert "2026-12-01 01:00 CET" in page


@pytest.mark.parts
def test_adjustments_restatements_and_unpriced_usage_are_on_the_page(bill: BillDocument) -> None:
    page = as_html(bill)
    assert "Adjustments of closed periods" in page
    assert "corrects 2026-10" in page
    assert "revision 1: 1 late event (e7) approved" in page
    assert "2.5 gb in 1 hour: no_price" in page
    assert "Restated, revision 1; closed" in page


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        self.found.add(tag)


@pytest.mark.parts
def test_a_hostile_name_is_text_on_the_page(bill: BillDocument) -> None:
    page = as_html(bill)
    tags = Tags()
    tags.feed(page)
    assert not tags.found & {"script", "img", "link", "iframe"}
    assert "{{7*7}}" in page
    assert "\\u202eevil" in page, "what turns the direction of text is spelled out"
    assert "🦦 مرحبا 株式会社" in page


@pytest.mark.parts
def test_a_hostile_name_is_no_formula_in_the_csv_and_numbers_stay_numbers(bill: BillDocument) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(bill))))
    assert {row["name"] for row in rows} == {"'" + bill.name}
    assert "-0.000001" in {row["amount"] for row in rows}
    for row in rows:
        for column in COLUMNS[:12]:
            assert not row[column].lstrip().startswith(tuple("=+-@＝＋－＠"))
        for column in ("units", "amount"):
            assert not row[column] or Decimal(row[column]).is_finite()


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", " =1", "＝1", "\r1"])
def test_a_formula_gets_a_quote(text: str) -> None:
    from metering.bills.csv import _cell

    assert _cell(text) == f"'{text}"


@pytest.mark.parts
def test_the_pdf_says_what_the_page_says(client: Any, settings: Settings) -> None:
    bill = bill_of(client, settings, "otter-ferries", "2026-10")
    text = pdf_text(as_pdf(bill))
    assert "Otter Ferries" in text
    assert f"{wording.money(bill.total)} USD" in text
    for line in bill.charges:
        assert wording.money(line.amount) in text


@pytest.mark.parts
def test_a_character_that_no_font_has_is_its_code_point_in_the_pdf(
    bill: BillDocument, tmp_path: Path
) -> None:
    text = pdf_text(as_pdf(bill))
    assert "[U+682A]" in text
    assert "<script>" in text, "text, as it is"


@pytest.mark.parts
def test_the_same_books_give_the_same_bytes(bill: BillDocument) -> None:
    assert as_pdf(bill) == as_pdf(bill)


@pytest.mark.parts
def test_a_font_that_is_none_is_an_error_that_names_it(bill: BillDocument, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.ttf"
    wrong.write_text("no font")
    with pytest.raises(UserError, match=r"wrong\.ttf is not a font"):
        as_pdf(bill, [wrong])


def test_every_kind_of_line_has_words() -> None:
    assert not [kind for kind in get_args(Kind) if "_" in wording.kind_words(kind)]


@pytest.fixture
def metering(client: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CLICKHOUSE_URL", settings.clickhouse())
    monkeypatch.setenv("METERING_DATABASE", settings.database)
    return lambda *words: CliRunner().invoke(app, ["bill", *words])


@pytest.mark.parts
@pytest.mark.parametrize(
    ("form", "begins"), {"html": b"<!doctype", "pdf": b"%PDF-", "csv": b"customer,"}.items()
)
def test_the_command_writes_each_form(metering: Any, tmp_path: Path, form: str, begins: bytes) -> None:
    file = tmp_path / "bill"
    done = metering("berlin", "--period", "2026-11", f"--{form}", "--out", str(file))
    assert done.exit_code == 0, done.output
    assert file.read_bytes().lstrip().startswith(begins)


@pytest.mark.parts
def test_without_a_file_the_document_is_the_output(metering: Any) -> None:
    assert metering("berlin", "--period", "2026-11", "--csv").stdout.startswith("customer,")


@pytest.mark.parts
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["berlin", "--html", "--csv"], "one form at a time"),
        (["berlin", "--out", "x"], "--out is for a document"),
        (["nobody", "--period", "2026-11", "--html"], "nothing was charged to `nobody`"),
        (["berlin", "--period", "2026-13", "--html"], "is not a billing period"),
        (["berlin", "--period", "2026-11", "--html", "--out", "/nowhere/bill"], "cannot be written"),
    ],
)
def test_a_mistake_is_told(metering: Any, words: list[str], said: str) -> None:
    assert said in str(metering(*words).exception)
