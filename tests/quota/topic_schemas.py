"""Makes `docs/schemas`: what stands on the topics of quotas, and the OpenAPI document of quotad.

`python -m tests.quota.topic_schemas` writes the files; a test compares them with what it would write.
"""

import json
from pathlib import Path
from typing import Any

from metering.quota.wire import QuotaEvent, Reply, Request, StateRecord
from metering.quotad.openapi import document
from metering.schemas import components

FOLDER = Path(__file__).parent.parent.parent / "docs" / "schemas"
_TOPICS: dict[str, Any] = {
    "quota.state": StateRecord,
    "quota.checks": Request,
    "quota.replies": Reply,
    "quota.events": QuotaEvent,
}


def files() -> dict[str, str]:
    """Each file and its content."""
    found: dict[str, Any] = {f"{topic}.json": _schema(topic, what) for topic, what in _TOPICS.items()}
    found["quotad.openapi.json"] = document()
    return {name: json.dumps(value, indent=1) + "\n" for name, value in found.items()}


def _schema(topic: str, what: Any) -> dict[str, Any]:
    (root,), named = components([what], "#/$defs/{name}")
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": f"a value of {topic}", **root, "$defs": named}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, content in files().items():
        (FOLDER / file).write_text(content)
