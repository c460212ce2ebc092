"""A conversation with a model: what was said stays in its cache, and may be stopped at any time."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import resolve_threads
from lrc.errors import SpecError
from lrc.run.chat import Message
from lrc.run.generate import read_as
from lrc.run.load import LoadedModel
from lrc.run.lookup import Lookup, check_lookup, continued, refuse_states
from lrc.run.sampler import Chooser, Sampler
from lrc.run.stops import until_stop
from lrc.run.streams import Streams
from lrc.run.text import text_pieces

#: Most tokens of a conversation unless the model allows fewer.
CONTEXT = 4096


class Conversation:
    """Questions and answers, one after the other.

    Parameters
    ----------
    loaded : LoadedModel
        With a chat template.
    sampler : Sampler or None
        None is greedy. Each answer draws from a seed of its own, counted up from this one's.
    system : str or None
        How the model is to answer.
    stop : sequence of str
        Texts before which an answer ends.
    most : int or None
        Most tokens of an answer; None is what the context leaves.
    threads, activations, lookup, kv_bits, schema, progress
        As of `LoadedModel.generate`.

    Attributes
    ----------
    messages : list of {"role": ..., "content": ...}
        What was said so far.

    Examples
    --------
    >>> import lrc
    >>> talk = Conversation(lrc.load("SmolLM2-135M-Instruct"))  # doctest: +SKIP
    >>> for piece in talk.answer("Hi!"):  # doctest: +SKIP
    ...     print(piece, end="", flush=True)
    """

    def __init__(
        self,
        loaded: LoadedModel,
        sampler: Sampler | None = None,
        system: str | None = None,
        stop: Sequence[str] = (),
        most: int | None = None,
        *,
        threads: int | None = None,
        activations: str = "i8",
        lookup: int = 0,
        kv_bits: int = 0,
        schema: Mapping[str, Any] | str | None = None,
        progress: Progress = SILENT,
    ) -> None:
        if most is not None and most < 1:
            raise SpecError(f"most={most} must be at least 1")
        self._loaded, self._sampler = loaded, sampler or Sampler()
        self._system, self._stop, self._most = system, tuple(stop), most
        self._sampler.check_ids(loaded.model.vocab_size)
        until_stop((), self._stop)
        self.context = min(loaded.model.context, CONTEXT)
        check_lookup(lookup)
        refuse_states(loaded.model, lookup)
        self._lookup = lookup
        self._grammar = None if schema is None else loaded.grammars.grammar(schema)
        streams = Streams(
            loaded.model, 1, self.context, resolve_threads(threads),
            read_as(activations, lookup), kv_bits=kv_bits, progress=progress,
        )  # fmt: skip
        self._stream, self._answers = streams.streams[0], 0
        self.messages: list[Message] = []
        self.reset()

    def reset(self, system: str | None = None) -> None:
        """Forget what was said; ``system`` replaces how the model is to answer."""
        self._system = self._system if system is None else system
        told = [{"role": "system", "content": self._system}] if self._system else []
        self.messages = list(told)

    def retract(self) -> str | None:
        """Forget the last question and its answer; return the question, None if there is none."""
        asked = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
        if not asked:
            return None
        question: str = self.messages[asked[-1]]["content"]
        del self.messages[asked[-1] :]
        return question

    def answer(self, text: str) -> Generator[str, None, None]:
        """Pieces of the answer to ``text``, never half a character.

        An answer that is closed, or interrupted, is kept as far as it came.

        Raises
        ------
        SpecError
            At once, and nothing is kept: the template refuses the text, or the context is full.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        prompt: list[int] = self._loaded.prompt_ids(messages).tolist()
        left = self.context - len(prompt)
        if left < 1:
            raise SpecError(
                f"the conversation's {len(prompt)} tokens leave no room in the context of "
                f"{self.context}; begin a new one"
            )
        self.messages = messages
        return self._kept_answer(prompt, left if self._most is None else min(left, self._most))

    def _kept_answer(self, prompt: list[int], most: int) -> Generator[str, None, None]:
        told: list[str] = []
        tokens = self._tokens(prompt, most)
        try:
            for piece in until_stop(text_pieces(self._loaded.tokenizer, tokens), self._stop):
                told.append(piece)
                yield piece
        finally:
            self.messages.append({"role": "assistant", "content": "".join(told)})

    def _tokens(self, prompt: list[int], most: int) -> Generator[int, None, None]:
        seed = self._sampler.seed + self._answers
        self._answers += 1
        constraint = None if self._grammar is None else self._grammar.begin()
        chooser = Chooser(dataclasses.replace(self._sampler, seed=seed), prompt, constraint)
        ids = prompt[self._stream.begin(prompt) :]
        eos_ids, lookup = self._loaded.tokenizer.eos_ids, Lookup(self._lookup, prompt)
        return continued(self._stream, chooser, ids, most, eos_ids, lookup)
