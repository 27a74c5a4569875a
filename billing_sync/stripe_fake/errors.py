"""Errors as Stripe shapes them, and what can happen to a request on its way."""

from typing import Any


class ApiError(Exception):
    """An error answer; `stored` says whether its idempotency key remembers it."""

    def __init__(
        self, status: int, kind: str, message: str, code: str = "", param: str = "", *, stored: bool = True
    ) -> None:
        super().__init__(message)
        self.status = status
        self.stored = stored
        error: dict[str, Any] = {"type": kind, "message": message}
        error |= {"code": code} if code else {}
        error |= {"param": param} if param else {}
        self.body = {"error": error}


def invalid(
    message: str, code: str = "", param: str = "", status: int = 400, *, stored: bool = True
) -> ApiError:
    """An invalid_request_error."""
    return ApiError(status, "invalid_request_error", message, code, param, stored=stored)


class Lost(Exception):
    """No answer: the connection broke or timed out."""


class Crash(BaseException):
    """The process that sent the request dies: nothing after it runs."""
