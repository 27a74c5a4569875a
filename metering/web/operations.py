"""What the operations page shows beside the books: partitions from Kafka, findings of `metering watch`."""

import time
import urllib.request
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from metering.errors import UserError
from metering.invariants.base import Invariant
from metering.invariants.registry import ALL
from metering.settings import Settings
from metering.standing import Standing, holding_back, look, standings

_WATCH_SECONDS = 3.0
_KAFKA_SECONDS = 8.0  # a reader waits
_STALE_SECONDS = 600.0


class Pipeline(NamedTuple):
    """The partitions, or why they are not known."""

    partitions: list[Standing]
    last: Standing | None
    problem: str


class Checked(NamedTuple):
    """One invariant: `state` is holds, broken, old or unknown; `rows` break it."""

    invariant: Invariant
    state: str
    rows: int


class Watched(NamedTuple):
    """The invariants as `metering watch` found them last, or why they are not known."""

    checked: list[Checked]
    problem: str


def pipeline(settings: Settings) -> Pipeline:
    """Ask Kafka where each partition stands."""
    try:
        found = standings(settings, look(settings, _KAFKA_SECONDS), time.time_ns() // 1_000_000)
    except UserError as error:
        return Pipeline([], None, f"{error}; {error.hint}")
    except KeyError as error:
        return Pipeline([], None, f"Kafka has no topic {error}; run `metering topics apply`")
    return Pipeline(found, holding_back(found), "")


def watched(settings: Settings) -> Watched:
    """Read the metrics of `metering watch`."""
    try:
        with urllib.request.urlopen(settings.watch_url, timeout=_WATCH_SECONDS) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    except (OSError, ValueError) as error:
        return Watched([], f"{settings.watch_url} does not answer ({error}): is `metering watch` running?")
    values = {(s.name, s.labels.get("invariant", "")): s.value for f in families for s in f.samples}
    return Watched([_checked(one, values, time.time()) for one in ALL], "")


def _checked(one: Invariant, values: dict[tuple[str, str], float], now: float) -> Checked:
    holds = values.get(("metering_invariant_holds", one.name))
    rows = int(values.get(("metering_invariant_broken_rows", one.name), 0))
    at = values.get(("metering_invariant_last_check_timestamp_seconds", one.name), 0)
    if holds is None:
        return Checked(one, "unknown", rows)
    if now - at > _STALE_SECONDS:
        return Checked(one, "old", rows)
    return Checked(one, "holds" if holds else "broken", rows)
