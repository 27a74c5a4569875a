"""How a process of ours ends when it must not go on: at once, with its reason in the log."""

import os
from typing import Any, NoReturn

import structlog

from metering.errors import UserError

EXIT_CRASH = 70

log = structlog.get_logger()


def die(event: str, error: Exception | None = None, **facts: Any) -> NoReturn:
    """End the process, also when its log cannot be written: nothing was acknowledged, a restart is exact."""
    try:
        if isinstance(error, UserError):
            facts |= {"error": str(error), "hint": error.hint}
        elif error is not None:
            facts |= {"error": repr(error), "exc_info": error}
        log.error(event, exit_code=EXIT_CRASH, **facts)
    finally:
        os._exit(EXIT_CRASH)
