"""Invoices as files: JSON for programs, CSV for people; for those who have no payment provider.

A draft is a JSON file in `drafts/`; finalizing moves it to `invoices/` and writes its CSV beside it.
Every file is written whole and renamed, and its name comes from our own ids: to repeat is harmless.
"""

import csv
import io
import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from billing_sync.currencies import major
from billing_sync.planner import Plan, PlannedLine
from billing_sync.port import Caps, HeldInvoice, HeldLine, Rejected

_COLUMNS = ["invoice", "customer", "period", "line", "description", "amount", "currency"]


class FileProvider:
    """A folder that takes invoices."""

    def __init__(self, folder: Path) -> None:
        self.name = f"files in {folder}"
        self.caps = Caps(lines_per_invoice=10_000, lines_per_call=10_000, requests_per_second=1e6)
        self._drafts, self._final = folder / "drafts", folder / "invoices"
        for made in (self._drafts, self._final):
            made.mkdir(parents=True, exist_ok=True)

    def find_customer(self, customer: str, *, is_fresh: bool = False) -> str | None:
        """Customers need no account here: they go by our own id."""
        return customer

    def create_customer(self, customer: str, name: str, key: str) -> str:
        """Nothing to create."""
        return customer

    def find_invoice(self, external_customer: str, plan: Plan) -> HeldInvoice | None:
        """The invoice of a plan."""
        return self.get_invoice(_name(plan))

    def get_invoice(self, external: str) -> HeldInvoice | None:
        """An invoice by its name."""
        held = self._read(external)
        if held is None:
            return None
        total = sum(line["minor"] for line in held["lines"])
        return HeldInvoice(external, held["status"], held["number"], total)

    def subscription_draft(self, external_customer: str, subscription: str) -> HeldInvoice | None:
        """There are no subscriptions."""
        raise Rejected("invoices in files know no subscriptions", "unsupported")

    def create_draft(self, external_customer: str, plan: Plan, key: str) -> str:
        """A file without lines."""
        name = _name(plan)
        if self._read(name) is None:
            head = {"invoice": plan.id, "customer": plan.customer, "account": external_customer}
            money = {"period": plan.period, "currency": plan.currency, "status": "draft", "number": ""}
            _write(self._drafts / f"{name}.json", json.dumps({**head, **money, "lines": []}, indent=2))
        return name

    def add_lines(self, external: str, plan: Plan, lines: Sequence[PlannedLine], key: str) -> None:
        """Write the draft with these lines; one that it has already stays as it is."""
        held = self._draft(external)
        known = {line["id"] for line in held["lines"]}
        held["lines"] += [_line(line, plan) for line in lines if line.id not in known]
        _write(self._drafts / f"{external}.json", json.dumps(held, indent=2, ensure_ascii=False))

    def lines(self, external: str) -> list[HeldLine]:
        """The lines of an invoice."""
        held = self._read(external)
        return [HeldLine(line["id"], line["minor"]) for line in held["lines"]] if held else []

    def finalize(self, external: str, key: str) -> HeldInvoice:
        """Move the draft to the invoices, with its CSV beside it."""
        if not (self._final / f"{external}.json").exists():
            held = self._draft(external)
            held |= {"status": "open", "number": external}
            _write(self._final / f"{external}.csv", _csv(held))
            _write(self._final / f"{external}.json", json.dumps(held, indent=2, ensure_ascii=False))
        (self._drafts / f"{external}.json").unlink(missing_ok=True)
        found = self.get_invoice(external)
        assert found is not None, "it was written just now"
        return found

    def delete_draft(self, external: str) -> None:
        """Remove a draft."""
        (self._drafts / f"{external}.json").unlink(missing_ok=True)

    def _draft(self, external: str) -> dict[str, Any]:
        held = self._read(external)
        if held is None or held["status"] != "draft":
            raise Rejected(f"{external} is no draft", "invoice_not_editable")
        return held

    def _read(self, external: str) -> dict[str, Any] | None:
        for folder in (self._final, self._drafts):
            try:
                return dict(json.loads((folder / f"{external}.json").read_text()))
            except FileNotFoundError:
                continue
        return None


def _name(plan: Plan) -> str:
    """The period, what of the customer's name a file can carry, and the invoice's own id."""
    readable = "".join(c if c.isalnum() or c in "-_" else "_" for c in plan.customer)[:60]
    return f"{plan.period}-{readable}-{sha256(plan.id.encode()).hexdigest()[:8]}"


def _line(line: PlannedLine, plan: Plan) -> dict[str, Any]:
    return {
        "id": line.id,
        "price": line.price,
        "description": line.description,
        "period": line.period or plan.period,
        "minor": line.minor,
        "amount": format(major(line.minor, plan.currency), "f"),
        **dict(line.details),
    }


def _csv(held: dict[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for line in held["lines"]:
        place = [held["number"], held["customer"], line["period"]]
        texts = [_plain(text) for text in (*place, line["price"], line["description"])]
        writer.writerow([*texts, line["amount"], held["currency"]])
    return out.getvalue()


def _plain(text: str) -> str:
    """A spreadsheet would run a text that begins like a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _write(path: Path, text: str) -> None:
    """The whole file or none of it, on the disk before it is named."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
