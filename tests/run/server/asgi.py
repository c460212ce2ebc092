"""Requests to an application without a socket; clients that go away when they are told to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def chunks(self):
        """Objects of server-sent events, without the mark of their end, which must be there."""
        *lines, done, rest = self.body.split(b"\n\n")
        assert (done, rest) == (b"data: [DONE]", b"")
        return [json.loads(line.removeprefix(b"data: ")) for line in lines]


async def ask(
    app, path, body=None, *, method=None, headers=(), leave=None, size=1 << 16, whole=True
):
    """Send one request; go away once ``leave``, given the body so far, says so.

    Not ``whole``: what is sent has no end.
    """
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )
    sent = [content[i : i + size] for i in range(0, len(content), size)] or [b""]
    given = {"content-type": "application/json", "host": "localhost", **dict(headers)}
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": method or ("GET" if body is None else "POST"), "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    answer, gone = Answer(), asyncio.Event()

    async def receive():
        if sent:
            part = sent.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(sent) or not whole}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            answer.body += message.get("body", b"")
        if leave is not None and leave(answer.body):
            gone.set()

    if leave is not None and leave(b""):
        gone.set()
    await app(scope, receive, send)
    return answer


def call(app, path, body=None, **options):
    """One request in a loop of its own."""
    return asyncio.run(ask(app, path, body, **options))
