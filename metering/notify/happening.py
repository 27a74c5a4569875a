"""Something that a person may want to know, with an id that is the same each time it is seen."""

import hashlib
import json
from datetime import datetime
from typing import Literal, NamedTuple

Kind = Literal[
    "quota.threshold",
    "quota.blocked",
    "quota.unblocked",
    "quota.overrun",
    "billing.sync_failed",
    "billing.drift",
    "billing.payment_failed",
    "period.month_closed",
    "period.restated",
    "test",
]


class Happening(NamedTuple):
    """`identity` is what makes it this one and no other; `facts` are texts, amounts among them."""

    kind: Kind
    identity: tuple[str, ...]
    at: datetime
    facts: dict[str, str]

    @property
    def id(self) -> str:
        """A name of it without characters that a signature or a header gives a meaning to."""
        text = json.dumps([self.kind, *self.identity])
        return f"evt_{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def body(self) -> str:
        """The payload of Standard Webhooks: type, timestamp, data."""
        at = self.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        return json.dumps({"type": self.kind, "timestamp": at, "data": self.facts}, ensure_ascii=False)
