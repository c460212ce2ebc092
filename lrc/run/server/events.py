"""From the thread that makes texts to the loop that sends them, and back when a client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from lrc.run.server.jobs import End, Event, Failure, Job
from lrc.run.server.parse import Request
from lrc.run.server.refusals import GONE, RefusalError


class Texts:
    """Jobs of one request, and their events as they come, on the loop that made this."""

    def __init__(self, parsed: Request) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.jobs = [Job(ask, self._teller(i)) for i, ask in enumerate(parsed.asks)]

    def _teller(self, index: int) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            try:
                self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, event))
            except RuntimeError:  # the loop is closed
                self.cancel()

        return tell

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Events and whose they are, until every job has ended; raises what made one fail."""
        left = len(self.jobs)
        while left:
            index, event = await self._queue.get()
            if isinstance(event, Failure):
                raise event.error
            yield index, event
            left -= isinstance(event, End)

    def cancel(self) -> None:
        """Let no more work be done for them."""
        for job in self.jobs:
            job.cancel()


async def unless_gone(request: Any, answer: Awaitable[Any]) -> Any:
    """The answer, or an error once the client has gone away."""
    made = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({made, gone}, return_when=asyncio.FIRST_COMPLETED)
        if made.done():
            return made.result()
        raise RefusalError(499, GONE)
    finally:
        for task in (made, gone):
            task.cancel()


async def _gone(request: Any) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
