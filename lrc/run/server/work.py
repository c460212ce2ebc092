"""One text in the making: reads its prompt, takes token after token, tells pieces of text."""

from __future__ import annotations

from lrc.run.lookup import Lookup, ReadAhead
from lrc.run.sampler import Chooser, Logits
from lrc.run.server.jobs import End, Job, Piece, Scored
from lrc.run.server.scores import score, score_rows
from lrc.run.stops import StopFilter
from lrc.run.stream import Stream
from lrc.run.streams import Streams
from lrc.run.text import TextStream, Tokenizer

#: Tokens whose logits exist at the same time while a prompt is scored.
SCORED_ROWS = 32


class Work:
    """A job on a stream.

    Parameters
    ----------
    job : Job
    stream : Stream
        Free; it keeps what its next job may go on from.
    streams : Streams
        Those that it is one of.
    tokenizer : Tokenizer
    lookup : Lookup
        Knows the prompt.

    Attributes
    ----------
    token : int
        The last one that was chosen, which is yet to be read.
    ended : bool
    """

    def __init__(
        self, job: Job, stream: Stream, streams: Streams, tokenizer: Tokenizer, lookup: Lookup
    ) -> None:
        self.job, self.stream, self.ended = job, stream, False
        self._streams, self._tokenizer = streams, tokenizer
        ask = job.ask
        self._reused = stream.begin(ask.ids, reuse=not ask.score_prompt)
        self._read = self._reused
        constraint = None if ask.grammar is None else ask.grammar.begin()
        self._chooser = Chooser(ask.sampler, ask.ids, constraint)
        self._text, self._filter = TextStream(tokenizer), StopFilter(ask.stops)
        self._made, self.token = 0, -1
        self._ahead = ReadAhead(stream, lookup)

    @property
    def is_reading(self) -> bool:
        """Whether tokens of the prompt are left."""
        return self._read < len(self.job.ask.ids)

    def read(self, most: int) -> None:
        """Read at most so many tokens of the prompt; behind the last one, choose the first new."""
        ids = list(self.job.ask.ids[self._read : self._read + most])
        logits = self._scored(ids) if self.job.ask.score_prompt else self.stream.read(ids)
        self._read += len(ids)
        if not self.is_reading:
            if self.job.ask.most == 0:
                self._end("length")
            else:
                self.take(logits)

    def logits(self) -> Logits:
        """Logits (vocab,) after the last token."""
        return self._ahead.after(self.token, self.job.ask.most - self._made)

    def settled_token(self) -> int:
        """The last token, where it is read together with those of other texts."""
        self._ahead.pass_by(self.token)
        return self.token

    def leave(self) -> None:
        """Let the stream have no tokens but those of the text."""
        self._ahead.settle()

    def take(self, logits: Logits) -> None:
        """Choose the next token from logits (vocab,), and tell what text it makes."""
        ask = self.job.ask
        self.token = self._chooser.choose(logits)
        scored: tuple[Scored, ...] = ()
        if ask.likeliest is not None:
            scored = (score(logits, self.token, ask.likeliest),)
        if self.token in self._tokenizer.eos_ids:
            # Who reads the scores of a prompt counts on one more for each token that was made.
            self._tell("", scored if ask.score_prompt else ())
            self._end("stop")
            return
        self._made += 1
        self._tell(self._filter.push(self._text.push(self.token)), scored)
        if self._filter.stopped or self._chooser.is_over:
            self._end("stop")
        elif self._made == ask.most:
            self._end("length")

    def _scored(self, ids: list[int]) -> Logits:
        """Read tokens and score those after them; return the last logits."""
        ask, first = self.job.ask, self._read
        rows = self.stream.outputs(ids)
        if first == 0:
            self._tell("", (Scored(ids[0], None),))
        for start in range(0, len(ids), SCORED_ROWS):
            logits = self._streams.head(rows[start : start + SCORED_ROWS])
            after = first + start + 1
            tokens = list(ask.ids[after : after + len(logits)])
            scored = score_rows(logits[: len(tokens)], tokens, ask.likeliest or 0)
            self._tell("", tuple(scored))
        last: Logits = logits[-1]
        return last

    def _tell(self, text: str, scored: tuple[Scored, ...] = ()) -> None:
        if text or scored:
            self.job.tell(Piece(text, scored))

    def _end(self, reason: str) -> None:
        self.ended = True
        if not self._filter.stopped:
            rest = self._filter.push(self._text.flush())
            self._tell(rest + self._filter.flush())
        self.job.tell(End("stop" if self._filter.stopped else reason, self._made, self._reused))
