"""Runs the queries of a panel against a Prometheus, as Grafana would, for the previews."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from dashboards.run import Json, Result

_STEP_SECONDS = 5
_RATE_INTERVAL = "1m"  # four scrapes of 15 s, as Grafana chooses it
_TIMEOUT = 30
_LABEL = re.compile(r"\{\{(\w+)\}\}")


class Prometheus:
    """A server at an address; series are those of the last `seconds`."""

    def __init__(self, url: str, seconds: int) -> None:
        self._url, self._seconds = url.rstrip("/"), seconds

    def figure(self, target: Json) -> str:
        """The one number of an instant query as text; empty when there is none."""
        found = self._ask("query", query=target["expr"], time=time.time())
        return str(found[0]["value"][1]) if found else ""

    def series(self, targets: list[Json]) -> Result:
        """Every series of a panel: a time, the legend, and the number."""
        rows = sorted(row for target in targets for row in self._rows(target))
        return Result(["time", "series", "value"], ["DateTime", "String", "Decimal"], rows)

    def _rows(self, target: Json) -> Iterator[tuple[datetime, str, Decimal]]:
        now = int(time.time()) // _STEP_SECONDS * _STEP_SECONDS
        expression = target["expr"].replace("$__rate_interval", _RATE_INTERVAL)
        asked = {"query": expression, "start": now - self._seconds, "end": now, "step": _STEP_SECONDS}
        for one in self._ask("query_range", **asked):
            legend = _named(target["legendFormat"], one["metric"])
            for at, value in one["values"]:
                if (number := Decimal(value)).is_finite():
                    yield datetime.fromtimestamp(int(at), UTC), legend, number

    def _ask(self, kind: str, **asked: Any) -> list[Json]:
        with urlopen(f"{self._url}/api/v1/{kind}?{urlencode(asked)}", timeout=_TIMEOUT) as answer:
            return list(json.load(answer)["data"]["result"])


def _named(legend: str, labels: dict[str, str]) -> str:
    return _LABEL.sub(lambda found: labels.get(found[1], ""), legend)
