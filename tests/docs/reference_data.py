"""The reference pages of metrics, records and reasons, made from the code like those of `reference.py`."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from prometheus_client import Metric

from billing_sync.metrics import Metrics as BillingMetrics
from metering.events import UsageEvent
from metering.invariants.metrics import Metrics as InvariantMetrics
from metering.observe.families import REGISTRY
from metering.observe.reports import Counted, Part, Report, StateCollector
from metering.quota.wire import QuotaEvent
from metering.quotad.metrics import Metrics as QuotadMetrics
from metering.records import Approved, Effect, Record, Slice
from tests.docs.pages import ROOT
from tests.docs.sentences import Sentence


class _Anyone:
    """A process that has every family."""

    def report(self) -> Report:
        return Report("sink", "1", [Part("usage.events", 0, 1, 2, 3.0, 4.0, Counted(1, 1, 0, 0, 0))])


def metrics() -> str:
    """Every family of every process, with its labels."""
    quotad: Any = QuotadMetrics()
    sources = {
        "`metering worker`, `metering sink`": [*StateCollector(_Anyone()).collect(), *REGISTRY.collect()],
        "`metering watch`": [*InvariantMetrics().registry.collect()],
        "`billing-sync run`": [*BillingMetrics().registry.collect()],
        "`metering quotad`": [*quotad._registry.collect()],
    }
    labels = _labels()
    text = "# Metrics\n\nMade from the code. How they are reached: [dashboards](../dashboards.md).\n"
    for title, families in sources.items():
        text += f"\n## {title}\n\n| family | type | labels | |\n|---|---|---|---|\n"
        for family in sorted(families, key=lambda one: one.name):
            text += _family(family, labels)
    return text


def _family(family: Metric, made_with: dict[str, str]) -> str:
    name = family.name + ("_total" if family.type == "counter" else "")
    seen = next((sample.labels for sample in family.samples), None)  # none: it has no child yet
    labels = (
        made_with.get(family.name, "") if seen is None else _named(label for label in seen if label != "le")
    )
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n"


def _named(labels: Iterable[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


def _labels() -> dict[str, str]:
    """The labels by family, from the calls that make them."""
    found = {}
    files = [*sorted((ROOT / "metering").rglob("*.py")), *sorted((ROOT / "billing_sync").rglob("*.py"))]
    for file in files:
        tree = ast.parse(file.read_text())
        known = {
            node.targets[0].id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
            name = call.args[0]
            if isinstance(name, ast.Constant) and str(name.value).startswith("metering_"):
                given = [*call.args[1:], *(word.value for word in call.keywords if word.arg == "labels")]
                lists = [known.get(a.id, a) if isinstance(a, ast.Name) else a for a in given]
                texts = [e.value for a in lists if isinstance(a, ast.List) for e in a.elts]  # type: ignore[attr-defined]
                found[str(name.value).removesuffix("_total")] = _named(texts)
    return found


def records() -> str:
    """Every record of our topics, with its fields."""
    text = (
        "# Events and records\n\nMade from the code. Values are JSON; quantities and amounts are text, times"
        " epoch ms, hours epoch seconds. What a usage event may look like: [wire format](../wire-format.md)."
        " Quotas: [their topics](../quota-topics.md).\n"
    )
    for kind in (UsageEvent, *get_args(Record), QuotaEvent):
        tag = kind.__struct_config__.tag
        text += f"\n## {_title(kind)}\n\n{_about(kind)}\n\n"
        text += f"`kind` is `{tag}`.\n\n" if tag else ""
        text += _fields(kind)
    text += "\n## Parts of them\n"
    for part in (Approved, Slice, Effect):
        text += f"\n### {_title(part)}\n\n{_about(part)}\n\n{_fields(part)}"
    return text


def _title(kind: Any) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).capitalize()


def _about(kind: Any) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(kind) or "").split("\n\n"))


def _fields(kind: Any) -> str:
    lines = ["| field | type | if it is left out |", "|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        if (kind, field.name) == (UsageEvent, "at"):
            continue  # the decoder fills it
        shown = (
            "" if field.required else "empty" if field.default in ("", msgspec.NODEFAULT) else field.default
        )
        lines.append(f"| `{field.encode_name}` | {_type(field.type)} | {shown} |")
    return "\n".join(lines) + "\n"


def _type(kind: Any) -> str:
    text = (
        re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(kind)) if not isinstance(kind, type) or get_args(kind) else ""
    )
    return (text or kind.__name__).replace("|", "or")


def reasons() -> str:
    """Every reason for rejection, with what its detail says."""
    found: dict[str, set[str]] = {"sink_refused": {"what ClickHouse said, and the table"}}
    for file in sorted((ROOT / "metering").rglob("*.py")):
        for reason, said in _refusals(file):
            found.setdefault(reason, set()).update({said} - {""})
    text = (
        "# Reasons for rejection\n\nMade from the code: what stands in a dead letter's `reason`, and in its"
        " `detail`. What each means: [wire format](../wire-format.md#reasons-for-refusal)."
        " `<customer>` stands for what is put in.\n\n"
        "| reason | detail |\n|---|---|\n"
    )
    for reason, said in sorted(found.items()):
        text += f"| `{reason}` | {' *or* '.join(sorted(said)) or '…'} |\n"
    return text


def _refusals(file: Path) -> Iterator[tuple[str, str]]:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.FunctionDef):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                name = call.func.id if isinstance(call.func, ast.Name) else ""
                given = {"Refusal": call.args, "refuse": call.args[1:]}.get(name, [])
                if len(given) > 1 and isinstance(given[0], ast.Constant):
                    said = Sentence(module, function, call.lineno).of(given[1])
                    yield str(given[0].value), said.replace("|", "\\|")
