"""Clients that send next to nothing hold a connection for so long, and no longer."""

from __future__ import annotations

import asyncio
import importlib.util
import time

import pytest
from asgi import ask

from lrc.run.server import http, listen

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn")),
    reason="needs the extra serve",
)
BODY = b'{"prompt": "a", "max_tokens": 1}'


def test_a_body_that_does_not_end_is_refused(app_for, monkeypatch):
    monkeypatch.setattr(http, "BODY_SECONDS", 0.05)
    began = time.perf_counter()
    answer = asyncio.run(ask(app_for(), "/v1/completions", BODY, size=5, whole=False))
    assert answer.status == 408
    assert "did not come within 0.05 seconds; send it again" in answer.json["error"]["message"]
    assert time.perf_counter() - began < 5


async def answered(*pieces: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """What a server says until it closes the connection, and how long that took."""
    from uvicorn.server import ServerState

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    config, state = listen.configured(app), ServerState()
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),
        "127.0.0.1", 0,
    )  # fmt: skip
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    began = time.perf_counter()
    said = asyncio.create_task(reader.read())
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(pause)
    found = await asyncio.wait_for(said, 5)
    took = time.perf_counter() - began
    writer.close()
    server.close()
    return found, took


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"POST",),
        (HEAD, *(f"X-{i}: a\r\n".encode() for i in range(5))),
        (HEAD + b"\r\nab", b"GET"),  # a second request on a connection that had one
    ],
)
def test_a_head_that_does_not_end_is_hung_up_on(monkeypatch, pieces):
    monkeypatch.setattr(listen, "HEAD_SECONDS", 0.2)
    said, took = asyncio.run(answered(*pieces, pause=0.02))
    assert (b"200 OK" in said) == any(b"ab" in piece for piece in pieces)
    assert 0.1 < took < 3


def test_a_request_that_came_whole_is_not_hurried(monkeypatch):
    """Its body comes after the time for heads is over."""
    monkeypatch.setattr(listen, "HEAD_SECONDS", 0.15)
    said, _ = asyncio.run(answered(HEAD + b"Connection: close\r\n\r\n", b"a", b"b", pause=0.2))
    assert b"200 OK" in said
    assert b"done" in said


def test_a_head_without_end_is_refused():
    endless = b"X: " + b"a" * (listen.HEAD_BYTES + 9)
    said, _ = asyncio.run(answered(HEAD, endless))
    assert said.startswith(b"HTTP/1.1 400")


def test_more_connections_than_are_held_are_told_so(monkeypatch):
    monkeypatch.setattr(listen, "CONNECTIONS", 1)
    said, _ = asyncio.run(answered(HEAD + b"Connection: close\r\n\r\nab"))
    assert said.startswith(b"HTTP/1.1 503")
