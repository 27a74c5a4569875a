"""One format for all logs, ours and those of Faust and aiokafka: readable on a terminal, JSON elsewhere.

Facts are keys: topic, partition, offset, customer. Never a payload, a key of Kafka or of Stripe.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

# Whoever logs one of these by mistake logs its name only.
_SECRET = frozenset(
    {"payload", "value", "key", "data", "api_key", "password", "token", "secret", "authorization"}
)
_SHARED: list[Any] = [
    structlog.stdlib.add_logger_name,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def withhold(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace values that a log must not hold."""
    for name in _SECRET & event.keys():
        event[name] = "(withheld)"
    return event


def configure(level: str) -> dict[str, Any]:
    """Set up both worlds; what Faust's worker takes as its logging configuration."""
    on_terminal = sys.stderr.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*_SHARED[1:], withhold, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [*_SHARED, structlog.processors.format_exc_info],
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, withhold, renderer],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "ours"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Every fetch and heartbeat is a line of theirs below WARNING.
            "aiokafka": {"level": "WARNING"},
            "faust": {"level": level},
            "mode": {"level": level},
        },
    }
