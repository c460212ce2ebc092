"""The thread that makes all texts: a token of each in every round, and no text before its time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import resolve_threads
from lrc.errors import LrcError
from lrc.run.generate import read_as
from lrc.run.load import LoadedModel
from lrc.run.lookup import Lookup, refuse_states
from lrc.run.sampler import Logits
from lrc.run.server.jobs import Failure, Job
from lrc.run.server.options import ServeOptions
from lrc.run.server.work import Work
from lrc.run.stream import Stream
from lrc.run.streams import Streams

#: Tokens of a prompt that are read at once: while others wait for their next token, and alone.
BESIDE, ALONE = 64, 512
#: Most tokens of a text unless told otherwise.
CONTEXT = 4096


class BusyError(LrcError):
    """There are too many texts already."""


class StoppedError(LrcError):
    """The server is being shut down."""


class Scheduler:
    """Makes the texts of many jobs on one model.

    Jobs get a stream in the order in which they came. Then each reads its prompt, some tokens in
    a round, one prompt after the other; and those that have read theirs get a token each in every
    round. So none waits for more than that.

    Parameters
    ----------
    loaded : LoadedModel
    options : ServeOptions
    threads : int or None
        Threads that share the work; None is every processor.
    activations : str
    progress : Progress
        Told by the thread that makes the texts.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        options: ServeOptions,
        *,
        threads: int | None = None,
        activations: str = "i8",
        progress: Progress = SILENT,
    ) -> None:
        self._tokenizer, self._most_waiting = loaded.tokenizer, options.waiting
        self.context = min(loaded.model.context, options.context or CONTEXT)
        refuse_states(loaded.model, options.lookup)
        self._lookup = options.lookup
        self.streams = Streams(
            loaded.model, options.streams, self.context, resolve_threads(threads),
            read_as(activations, options.lookup), batch=options.batch,
            kv_bits=options.kv_bits, progress=progress,
        )  # fmt: skip
        self._free: list[Stream] = list(self.streams.streams)  # the one used last comes last
        self._work: deque[Work] = deque()
        self._waiting: deque[Job] = deque()
        self._changed, self._stopped = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="lrc-scheduler", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take on jobs, all or none; from any thread.

        Raises
        ------
        BusyError
            When too many wait already.
        StoppedError
            After `stop`.
        """
        with self._changed:
            if self._stopped:
                raise StoppedError("the server is being shut down")
            left = len(self._free) - len(self._waiting) + self._most_waiting
            if len(jobs) > left:
                raise BusyError(
                    f"{len(self._waiting)} texts wait already and {len(jobs)} more were asked for; "
                    f"at most {self._most_waiting} may wait: try again later"
                )
            self._waiting.extend(jobs)
            self._changed.notify()

    def stop(self) -> None:
        """End all jobs with `StoppedError`, and the thread; from any other thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._admit():
            self._drop([work for work in self._work if work.job.is_cancelled])
            self._read_prompt()
            self._step()
        error = StoppedError("the server is being shut down")
        self._fail(list(self._work), error)
        for job in self._waiting:
            job.tell(Failure(error))

    def _admit(self) -> bool:
        """Wait until there is work, and give streams to jobs; False when it is to stop."""
        with self._changed:
            while not (self._stopped or self._work or self._waiting):
                self._changed.wait()
            if self._stopped:
                return False
            while self._waiting and self._free:
                job = self._waiting.popleft()
                if not job.is_cancelled:
                    self._begin(job)
        return True

    def _begin(self, job: Job) -> None:
        stream = choose_stream(self._free, job.ask.ids)
        try:
            lookup = Lookup(self._lookup, job.ask.ids)
            self._work.append(Work(job, stream, self.streams, self._tokenizer, lookup))
        except Exception as error:
            job.tell(Failure(error))
        else:
            self._free.remove(stream)

    def _read_prompt(self) -> None:
        """Some tokens of the prompt of whoever has waited longest for that."""
        reading = [work for work in self._work if work.is_reading]
        if not reading:
            return
        work = reading[0]
        self._work.remove(work)  # others that read come first then
        self._work.append(work)
        try:
            work.read(ALONE if len(self._work) == 1 else BESIDE)
        except Exception as error:
            self._fail([work], error)
        self._drop([work for work in self._work if work.ended])

    def _step(self) -> None:
        """The next token of every text whose prompt is read."""
        ready = [work for work in self._work if not work.is_reading]
        if not ready:
            return
        try:
            logits = self._logits(ready)
        except Exception as error:
            self._fail(ready, error)
            return
        for work, row in zip(ready, logits, strict=True):
            try:
                work.take(row)
            except Exception as error:
                self._fail([work], error)
        self._drop([work for work in self._work if work.ended])

    def _logits(self, ready: Sequence[Work]) -> Sequence[Logits]:
        """Logits of each text after its last token: of all together, or some read ahead."""
        if self.streams.takes_together(len(ready)):
            tokens = [work.settled_token() for work in ready]
            return self.streams.step([work.stream for work in ready], tokens)
        return [work.logits() for work in ready]

    def _fail(self, failed: Sequence[Work], error: Exception) -> None:
        self._drop(failed)
        for work in failed:
            work.job.tell(Failure(error))

    def _drop(self, ended: Sequence[Work]) -> None:
        with self._changed:
            for work in ended:
                work.leave()
                self._work.remove(work)
                self._free.append(work.stream)


def choose_stream(free: Sequence[Stream], prompt: Sequence[int]) -> Stream:
    """The stream that knows most of a prompt, where that is half of it; else the longest unused.

    Of those that know as much, the one that would lose least.
    """
    known = {id(stream): stream.common(prompt) for stream in free}
    best = max(free, key=lambda stream: (known[id(stream)], -len(stream.ids)))
    return best if 2 * known[id(best)] >= len(prompt) else free[0]
