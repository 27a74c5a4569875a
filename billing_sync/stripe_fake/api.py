"""The fake's operations: pure of HTTP, from form parameters to objects or Stripe-shaped errors."""

import re
import time
from typing import Any

from billing_sync.currencies import exponent_and_step
from billing_sync.stripe_fake.state import State

LINES_PER_INVOICE = 250
_DEFAULT_PAGE, _LARGEST_PAGE = 10, 100


class ApiError(Exception):
    """An error as Stripe shapes it."""

    def __init__(self, status: int, kind: str, message: str, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {
                "type": kind,
                "message": message,
                **({"code": code} if code else {}),
                **({"param": param} if param else {}),
            }
        }


def invalid(message: str, code: str = "", param: str = "", status: int = 400) -> ApiError:
    """An invalid_request_error."""
    return ApiError(status, "invalid_request_error", message, code, param)


def parse_form(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """`a[b][0][c]=v` to nested dicts; numbered keys become lists."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        first, *rest = re.findall(r"[^\[\]]+", name)
        place = root
        for step in (first, *rest)[:-1]:
            place = place.setdefault(step, {})
        place[(first, *rest)[-1]] = value
    return {key: _lists(value) for key, value in root.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(item) for key, item in value.items()}
    if inner and all(key.isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


class Api:
    """The operations on one state."""

    def __init__(self, state: State) -> None:
        self.state = state

    def create_customer(self, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/customers."""
        body = {
            "name": params.get("name"),
            "metadata": params.get("metadata", {}),
            "created": int(time.time()),
            "livemode": False,
        }
        return self.state.create("customer", "cus", body)

    def create_invoice(self, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/invoices: a draft."""
        customer = params.get("customer", "")
        if self.state.get(customer) is None:
            raise invalid(f"No such customer: '{customer}'", "resource_missing", "customer", 400)
        if params.get("pending_invoice_items_behavior", "exclude") not in ("exclude", "include"):
            raise invalid("Invalid pending_invoice_items_behavior")
        body = {
            "customer": customer,
            "currency": params.get("currency", "usd"),
            "status": "draft",
            "number": None,
            "auto_advance": params.get("auto_advance") == "true",
            "description": params.get("description"),
            "metadata": params.get("metadata", {}),
            "total": 0,
            "created": int(time.time()),
            "livemode": False,
        }
        return self.state.create("invoice", "in", body, parent=customer)

    def invoice(self, identity: str) -> dict[str, Any]:
        """GET /v1/invoices/ID."""
        found = self.state.get(identity)
        if found is None or found["object"] != "invoice":
            raise invalid(f"No such invoice: '{identity}'", "resource_missing", "invoice", 404)
        return found

    def _draft(self, identity: str) -> dict[str, Any]:
        found = self.invoice(identity)
        if found["status"] != "draft":
            raise invalid("This invoice is no longer editable", "invoice_not_editable")
        return found

    def add_lines(self, identity: str, params: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/invoices/ID/add_lines: all of them or none."""
        draft = self._draft(identity)
        lines = params.get("lines", [])
        held = self.state.all("line_item", identity)
        if len(held) + len(lines) > LINES_PER_INVOICE:
            raise invalid(f"Invoices can have at most {LINES_PER_INVOICE} line items", param="lines")
        _, step = exponent_and_step(draft["currency"])
        amounts = [_amount(line, step) for line in lines]
        for line, amount in zip(lines, amounts, strict=True):
            body = {
                "amount": amount,
                "currency": draft["currency"],
                "description": line.get("description"),
                "metadata": line.get("metadata", {}),
                "invoice": identity,
            }
            self.state.create("line_item", "il", body, parent=identity)
        draft["total"] += sum(amounts)
        self.state.put(draft)
        return draft

    def finalize(self, identity: str) -> dict[str, Any]:
        """POST /v1/invoices/ID/finalize."""
        draft = self._draft(identity)
        numbered = sum(1 for i in self.state.all("invoice") if i["number"])
        draft.update(status="open", number=f"FAKE-{numbered + 1:04d}")
        self.state.put(draft)
        return draft

    def void(self, identity: str) -> dict[str, Any]:
        """POST /v1/invoices/ID/void."""
        found = self.invoice(identity)
        if found["status"] != "open":
            raise invalid("You can only void open invoices", "invoice_not_editable")
        found["status"] = "void"
        self.state.put(found)
        return found

    def delete_draft(self, identity: str) -> dict[str, Any]:
        """DELETE /v1/invoices/ID."""
        self._draft(identity)
        self.state.delete(identity)
        return {"id": identity, "object": "invoice", "deleted": True}

    def page(self, kind: str, parent: str, query: dict[str, str], url: str) -> dict[str, Any]:
        """A page of a listing."""
        limit = int(query.get("limit", _DEFAULT_PAGE))
        if not 1 <= limit <= _LARGEST_PAGE:
            raise invalid("limit must be between 1 and 100", param="limit")
        found = self.state.all(kind, parent)
        after = query.get("starting_after")
        if after:
            ids = [item["id"] for item in found]
            if after not in ids:
                raise invalid(f"No such object: '{after}'", "resource_missing", "starting_after")
            found = found[ids.index(after) + 1 :]
        more = len(found) > limit
        return {"object": "list", "data": found[:limit], "has_more": more, "url": url}


def _amount(line: dict[str, Any], step: int) -> int:
    try:
        amount = int(line["amount"])
    except (KeyError, ValueError) as error:
        raise invalid("lines need an integer amount", param="lines") from error
    if amount % step:
        raise invalid(f"amount must be a multiple of {step} in this currency", param="lines")
    return amount
