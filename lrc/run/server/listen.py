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

    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_GRACE,
        server_header=False,
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        Server(config).run(sockets=[own])
