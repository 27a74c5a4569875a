"""`metering bill --html | --pdf | --csv`: the document to a file or to standard output."""

import sys
from pathlib import Path
from typing import Any

from metering.bills.csv import as_csv
from metering.bills.document import BillDocument, bill_document
from metering.bills.html import as_html
from metering.bills.pdf import as_pdf
from metering.errors import UserError
from metering.settings import Settings


def rendered(bill: BillDocument, form: str, settings: Settings) -> bytes:
    """The document as `html`, `pdf` or `csv`; text is UTF-8."""
    if form == "pdf":
        return as_pdf(bill, settings.fonts())
    return {"html": as_html, "csv": as_csv}[form](bill).encode()


def write_bill(
    client: Any, settings: Settings, customer: str, period: str, form: str, file: Path | None
) -> int:
    """Write a customer's bill; the number of bytes. UserError when there is nothing to write, or no place."""
    bill = bill_document(client, settings, customer, period)
    if bill is None:
        raise UserError(
            f"nothing was charged to `{customer}` in {period}",
            hint="is the id right, and do worker and sink run? `metering status`",
        )
    if file is None and form == "pdf" and sys.stdout.isatty():
        raise UserError("a PDF is not for a terminal", hint="add `--out bill.pdf`, or send it to a file")
    return _write(rendered(bill, form, settings), file)


def _write(content: bytes, file: Path | None) -> int:
    if file is None:
        sys.stdout.flush()
        return sys.stdout.buffer.write(content)
    try:
        return file.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"{file} cannot be written: {error.strerror}", hint="give the path of a file"
        ) from error
