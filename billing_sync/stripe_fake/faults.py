"""What goes wrong with a request: planned one by one, or decided for each by a function."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """One fault.

    `kind`: status (answer with `status`), drop (no answer), crash (the sender dies), cut (the answer
    is cut off), delay (no answer, the request arrives `seconds` later), slow (no answer, it is being
    worked on and takes effect `seconds` later; its key is in use until then), gateway (somebody on the
    way answers `status`, nothing is remembered, and it takes effect `seconds` later).
    `when`: before or after the effect.
    """

    kind: str
    when: str = "before"
    status: int = 500
    seconds: int = 0


Decide = Callable[[str, str], Fault | None]  # method and path to the fault of that request


class Faults:
    """The plan: faults for the next requests, each after some that go well."""

    def __init__(self) -> None:
        self._plan: list[dict[str, Any]] = []
        self.decide: Decide = lambda _method, _path: None

    def add(self, fault: dict[str, Any]) -> None:
        """Plan a fault; `skip` requests go well first, then `count` have it.

        `methods` is POST unless told.
        """
        self._plan.append({"count": 1, "skip": 0, "methods": ["POST"], **fault})

    def take(self, method: str, path: str) -> Fault | None:
        """The fault of this request, if one is due."""
        for fault in self._plan:
            if method not in fault["methods"]:
                continue
            if fault["skip"] > 0:
                fault["skip"] -= 1
                return None
            if fault["count"] > 0:
                fault["count"] -= 1
                return Fault(**{name: fault[name] for name in Fault._fields if name in fault})
        return self.decide(method, path)
