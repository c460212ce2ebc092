"""The application behind a socket. Needs uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
from collections.abc import Callable
from typing import Any

from lrc.errors import LrcError
from lrc.run.server.refusals import needs_extra

#: Names of this machine to itself.
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
#: Seconds that clients get to read what was sent before the server ended.
_GRACE = 5
#: Seconds in which the head of a request has to come, from the first byte or the connection on.
HEAD_SECONDS = 20
#: Connections at the same time; further ones get status 503.
CONNECTIONS = 512
#: Bytes of a request's head.
HEAD_BYTES = 64 << 10


def check_extra() -> None:
    """Refuse to go on without what `listen` and the application need.

    Raises
    ------
    LrcError
        With the name of the extra.
    """
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise needs_extra()


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises
    ------
    LrcError
        The address is not there, or in use.
    """
    if not 0 <= port < 1 << 16:
        raise LrcError(f"--port {port} must be from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LrcError(f"cannot listen on {host}:{port}: {reason}; give another --port") from error


def listen(app: Any, own: socket.socket, stop: Callable[[], object]) -> None:
    """Answer until a signal ends it; ``stop`` is called then, to end what is under way."""
    import uvicorn

    class Server(uvicorn.Server):  # type: ignore[misc]
        """Ends texts before it waits for those who read them."""

        async def shutdown(self, sockets: Any = None) -> None:
            await asyncio.to_thread(stop)
            await super().shutdown(sockets)

    with contextlib.suppress(KeyboardInterrupt):
        Server(configured(app)).run(sockets=[own])


def configured(app: Any) -> Any:
    """How uvicorn runs an application: with bounds of what a client may hold without asking."""
    import uvicorn

    return uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_GRACE,
        server_header=False, http=_hurried(), limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEAD_BYTES, ws="none",
    )  # fmt: skip


def _hurried() -> Any:
    """Uvicorn's protocol, but a connection whose next request does not come whole is closed.

    Uvicorn itself waits for ever for the end of a head. Bodies are the application's to hurry.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Hurried(H11Protocol):  # type: ignore[misc]
        hurry: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._wait()
            else:  # a request is under way
                self._rest()

        def connection_lost(self, exc: Exception | None) -> None:
            self._rest()
            super().connection_lost(exc)

        def _wait(self) -> None:
            if self.hurry is None:
                self.hurry = self.loop.call_later(HEAD_SECONDS, self.transport.close)

        def _rest(self) -> None:
            if self.hurry is not None:
                self.hurry.cancel()
                self.hurry = None

    return Hurried
