"""Errors as a client is told of them: a status, and one line in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from lrc.errors import LrcError
from lrc.run.server.scheduler import BusyError, StoppedError

#: Said to nobody.
GONE = "the client has gone away"
_INVALID = "invalid_request_error"


class RefusalError(LrcError):
    """An answer that is an error.

    Parameters
    ----------
    status : int
        Of HTTP.
    message, kind, code
        Of `replies.error_body`.
    """

    def __init__(
        self, status: int, message: str, kind: str = _INVALID, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.body = status, error_body(message, kind, code)


def refusal(error: Exception) -> RefusalError:
    """What a client is told of an error: one line."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, BusyError):
        return RefusalError(429, str(error), "rate_limit_error", "too_many_requests")
    if isinstance(error, StoppedError):
        return RefusalError(503, str(error), "server_error", "stopped")
    line = " ".join(str(error).split())
    if isinstance(error, ValueError) and isinstance(error, LrcError):
        code = "context_length_exceeded" if "exceed the context" in line else None
        return RefusalError(400, line, code=code)
    if isinstance(error, LrcError):
        return RefusalError(500, line, "server_error")
    if isinstance(error, MemoryError):
        return RefusalError(503, "the server is out of memory", "server_error")
    return RefusalError(500, f"unexpected {type(error).__name__}: {line}", "server_error")


def error_body(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """An error as clients expect it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def needs_extra() -> LrcError:
    """What is said where starlette or uvicorn is missing."""
    return LrcError("lrc serve needs the extra serve; install it: pip install 'lrc-llm[serve]'")
