"""The archive as it can be sent again: every readable copy of an event, in the order in which it came."""

from collections.abc import Iterator
from typing import Any

import msgspec

_EVENTS = (
    "SELECT id, source, customer, type, toUnixTimestamp64Milli(time), data FROM events_current"
    " ORDER BY k_topic, k_partition, k_offset, k_index"
)


def archived_lines(client: Any) -> Iterator[bytes]:
    """JSON objects in the flat form of the wire format, each with its line break."""
    encode = msgspec.json.Encoder().encode
    with client.query_rows_stream(_EVENTS) as rows:
        for event_id, source, customer, kind, time, data in rows:
            event = {"id": event_id, "customer": customer, "type": kind, "time": time}
            if source:
                event["source"] = source
            yield encode({**event, "data": msgspec.Raw(data.encode())}) + b"\n"
