"""The application: routes, limits and errors of HTTP around a scheduler. Needs starlette."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from lrc.base.progress import SILENT, Progress
from lrc.run.load import LoadedModel
from lrc.run.server.events import Texts, unless_gone
from lrc.run.server.jobs import End, Event, Piece
from lrc.run.server.options import ServeOptions
from lrc.run.server.parse import Parser, Request
from lrc.run.server.refusals import GONE, RefusalError, refusal
from lrc.run.server.replies import Replies
from lrc.run.server.scheduler import Scheduler
from lrc.run.server.token_texts import TokenTexts

#: Seconds in which the body of a request has to come.
BODY_SECONDS = 60.0

Handler = Callable[[Any], Awaitable[Any]]


class Application:
    """Answers requests; `asgi` is what servers run.

    Parameters
    ----------
    loaded : LoadedModel
    scheduler : Scheduler
        Of the same model; whoever made it stops it.
    options : ServeOptions
    name : str
        By which clients know the model.
    hosts : sequence of str
        What the header ``Host`` may name, without the port; none at all allows any. It keeps web
        pages away that make their name resolve to this machine.
    progress : Progress
        Is told of errors that are nobody's request's.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        scheduler: Scheduler,
        options: ServeOptions,
        name: str,
        hosts: Sequence[str] = (),
        progress: Progress = SILENT,
    ) -> None:
        self._scheduler, self._options, self._name = scheduler, options, name
        self._parser = Parser(loaded, options, scheduler.context)
        self._texts, self._hosts = TokenTexts(loaded.tokenizer), tuple(hosts)
        self._created, self._progress = int(time.time()), progress

    def asgi(self) -> Any:
        """The application in starlette."""
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route

        async def unknown(request: Any, error: Any) -> Any:
            return _json(RefusalError(error.status_code, f"{request.url.path}: {error.detail}"))

        routes = [
            Route("/health", self._answer(self._health), methods=["GET"]),
            Route("/v1/models", self._answer(self._models), methods=["GET"]),
            Route("/v1/models/{name:path}", self._answer(self._model), methods=["GET"]),
            Route("/v1/completions", self._answer(self._completions), methods=["POST"]),
            Route("/v1/chat/completions", self._answer(self._chat), methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: unknown})

    def _answer(self, handler: Handler) -> Handler:
        """A handler behind the door, whose errors are answers."""

        async def answer(request: Any) -> Any:
            try:
                self._admit(request)
                return await handler(request)
            except Exception as error:
                return _json(self._told(error))

        return answer

    def _told(self, error: Exception) -> RefusalError:
        found = refusal(error)
        if found.status == 500:
            self._progress.note(f"error: {found}")
        return found

    def _admit(self, request: Any) -> None:
        host = request.headers.get("host", "")
        if self._hosts and host.rpartition(":")[0] not in self._hosts and host not in self._hosts:
            raise RefusalError(403, f"this server is not {host!r}")
        if not self._options.api_key:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        # Headers are bytes, which came here as Latin-1.
        sent, known = given.strip().encode("latin-1", "replace"), self._options.api_key.encode()
        if kind.lower() != "bearer" or not hmac.compare_digest(sent, known):
            message = "the API key is missing or wrong; send Authorization: Bearer KEY"
            raise RefusalError(401, message, code="invalid_api_key")

    async def _health(self, request: Any) -> Any:
        return _json({"status": "ok"})

    async def _models(self, request: Any) -> Any:
        return _json({"object": "list", "data": [self._description()]})

    async def _model(self, request: Any) -> Any:
        name = request.path_params["name"]
        if name != self._name:
            message = f"there is no model {name!r}; this server has {self._name!r}"
            raise RefusalError(404, message, code="model_not_found")
        return _json(self._description())

    def _description(self) -> dict[str, Any]:
        return {
            "id": self._name, "object": "model", "created": self._created, "owned_by": "lrc",
            "max_model_len": self._scheduler.context,
        }  # fmt: skip

    async def _completions(self, request: Any) -> Any:
        return await self._made(request, self._parser.completion)

    async def _chat(self, request: Any) -> Any:
        return await self._made(request, self._parser.chat)

    async def _made(self, request: Any, parse: Callable[[bytes], Request]) -> Any:
        body = await self._body(request)
        parsed = await asyncio.to_thread(parse, body)
        replies = Replies(parsed, self._texts, self._name)
        texts = Texts(parsed)
        self._scheduler.submit(texts.jobs)
        if parsed.stream:
            return _streaming(self._lines(parsed, replies, texts), texts.cancel)
        try:
            return await unless_gone(request, self._whole(replies, texts))
        finally:
            texts.cancel()

    async def _whole(self, replies: Replies, texts: Texts) -> Any:
        found: list[list[Event]] = [[] for _ in texts.jobs]
        async for index, event in texts.events():
            found[index].append(event)
        return _json(replies.whole(found))

    async def _lines(self, parsed: Request, replies: Replies, texts: Texts) -> AsyncIterator[bytes]:
        """Server-sent events."""
        try:
            for chunk in replies.begin():
                yield _line(chunk)
            async for index, event in texts.events():
                if isinstance(event, Piece):
                    yield _line(replies.piece(index, event))
                elif isinstance(event, End):
                    yield _line(replies.end(index, event))
            if parsed.tell_usage:
                yield _line(replies.usage_chunk())
            yield b"data: [DONE]\n\n"
        except Exception as error:
            yield _line(self._told(error).body)

    async def _body(self, request: Any) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            message = f"content is {kind or 'of no type'}; send Content-Type: application/json"
            raise RefusalError(415, message)
        from starlette.requests import ClientDisconnect

        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > self._options.body:
                        raise RefusalError(413, f"the request exceeds {self._options.body} bytes")
                    parts.append(part)
        except TimeoutError:
            message = f"the request did not come within {BODY_SECONDS:g} seconds; send it again"
            raise RefusalError(408, message) from None
        except ClientDisconnect as error:
            raise RefusalError(499, GONE) from error
        return b"".join(parts)


def _streaming(lines: AsyncIterator[bytes], end: Callable[[], object]) -> Any:
    """A response of server-sent events; ``end`` is called once they are sent or nobody reads."""
    from starlette.responses import StreamingResponse

    class Streaming(StreamingResponse):  # type: ignore[misc]
        async def __call__(self, *connection: Any) -> None:
            try:
                await super().__call__(*connection)
            finally:
                end()

    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return Streaming(lines, headers=headers, media_type="text/event-stream")


def _line(value: Any) -> bytes:
    return b"data: " + _dumps(value) + b"\n\n"


def _json(answer: Any) -> Any:
    from starlette.responses import Response

    status, value = (
        (answer.status, answer.body) if isinstance(answer, RefusalError) else (200, answer)
    )
    headers = {"retry-after": "1"} if status == 429 else {}
    return Response(_dumps(value), status, headers, "application/json")


def _dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
