"""Opening a model directory, dense or compressed, ready to run."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lrc.base.progress import SILENT, Progress
from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.run.generate import generate
from lrc.run.stops import until_stop
from lrc.run.text import TokenIds, Tokenizer, text_pieces

if TYPE_CHECKING:
    from lrc.formats.safetensors.checkpoint import Checkpoint
    from lrc.models.adapted import Adapter
    from lrc.parts.packed import PackedCheckpoint
    from lrc.run.chat import Message
    from lrc.run.sampler import Sampler
    from lrc.run.schema import JsonGrammars
    from lrc.run.transcribe import Segment

#: Most tokens of `LoadedModel.generate` unless told.
MAX_NEW_TOKENS = 512


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer and where both came from; made by :func:`load`.

    In a ``with`` statement it is closed at the end.

    Examples
    --------
    >>> import lrc
    >>> loaded = lrc.load("SmolLM2-135M-Instruct")  # doctest: +SKIP
    >>> for piece in loaded.generate([{"role": "user", "content": "Hi!"}]):  # doctest: +SKIP
    ...     print(piece, end="", flush=True)
    """

    model: Model
    tokenizer: Tokenizer
    source: Checkpoint | PackedCheckpoint
    path: Path

    def prompt_ids(self, prompt: str | Sequence[Message]) -> TokenIds:
        """Token ids (T,) int32 of a text to go on from, or of a conversation to answer.

        Raises
        ------
        SpecError
            There is nothing to go on from; or a conversation is given and the model has no chat
            template, or one that refuses it.
        """
        if not isinstance(prompt, str):
            ids = self.tokenizer.apply_chat(prompt)
        else:
            ids = self.tokenizer.encode_prompt(prompt)
        if len(ids) == 0:
            raise SpecError("the prompt is empty and this model has no BOS token; give some text")
        return ids

    def generate(
        self,
        prompt: str | Sequence[Message],
        max_new_tokens: int | None = None,
        sampler: Sampler | None = None,
        *,
        stop: Sequence[str] = (),
        threads: int | None = None,
        activations: str = "i8",
        lookup: int = 0,
        kv_bits: int = 0,
        schema: Mapping[str, Any] | str | None = None,
        progress: Progress = SILENT,
    ) -> Generator[str, None, None]:
        """Continue a text or answer a conversation, up to where the model ends it.

        Parameters
        ----------
        prompt : str or sequence of {"role": ..., "content": ...}
            A text to go on from as it stands, or messages for the model's chat template.
        max_new_tokens : int or None
            Most tokens; None is 512, or what the model's context leaves.
        sampler, threads, activations, lookup, kv_bits, progress
            As of :func:`lrc.generate`, except that ``threads`` is every processor by default.
        stop : sequence of str
            Texts before which the answer ends, wherever they come up in it.
        schema : mapping, str or None
            A JSON schema that the answer follows; its end may lie beyond ``max_new_tokens``.

        Returns
        -------
        generator of str
            Pieces of text as they are made, never half a character. ``close()`` ends it, and
            gives back what it works with.

        Raises
        ------
        SpecError
            At once, as of :meth:`prompt_ids` and :func:`lrc.generate`.
        """
        ids = self.prompt_ids(prompt)
        if max_new_tokens is None:
            left = self.model.context - len(ids)
            max_new_tokens = max(1, min(MAX_NEW_TOKENS, left))
        constraint = None if schema is None else self.grammars.grammar(schema).begin()
        tokens = generate(
            self.model, ids, max_new_tokens, sampler, self.tokenizer.eos_ids,
            threads=threads, activations=activations, lookup=lookup, kv_bits=kv_bits,
            constraint=constraint, progress=progress,
        )  # fmt: skip
        return until_stop(text_pieces(self.tokenizer, tokens), stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the weights, and let go of the files, which nothing can be read from any more.

        A text that is under way goes on; close its generator, too.
        """
        self.model.release()
        self.source.close()

    @cached_property
    def grammars(self) -> JsonGrammars:
        """What makes grammars of JSON schemas for this model's tokens.

        Raises
        ------
        LrcError
            The package llguidance is missing, or does not know the tokenizer.
        """
        from lrc.run.schema import JsonGrammars

        return JsonGrammars(self.tokenizer, self.model.vocab_size)

    def transcribe(
        self,
        audio: str | Path,
        language: str | None = None,
        task: str | None = None,
        *,
        timed: bool | None = None,
        threads: int | None = None,
        activations: str = "i8",
    ) -> Iterator[Segment]:
        """Write down what is said in a WAV file, with a model that hears.

        Parameters
        ----------
        audio : path
        language, task, timed
            As of `lrc.run.transcribe.Transcriber.segments`.
        threads, activations
            As of `lrc.run.transcribe.Transcriber`.

        Returns
        -------
        iterator of Segment
            ``begin`` and ``end`` in seconds, and ``text``.

        Raises
        ------
        FormatError
            At once: the model hears nothing, or a file of it or the audio cannot be read.
        SpecError
            At once: the model does not know the language or the task.
        """
        from lrc.audio.resample import read_audio
        from lrc.run.transcribe import open_transcriber

        transcriber = open_transcriber(self, threads, activations)
        return transcriber.segments(read_audio(Path(audio)), language, task, timed=timed)


def load(
    path: str | Path, adapters: Sequence[str | Path | Adapter | tuple[Any, float]] = ()
) -> LoadedModel:
    """Open a dense or compressed model: a directory, or ORG/NAME[@REVISION] of the hub.

    The configuration, the tokenizer and the weights' headers are read and checked now, the
    weights themselves when they are first needed; ``model.notes`` says what is not read.

    Parameters
    ----------
    path : path
    adapters : sequence of path, `lrc.models.adapted.Adapter`, or a pair of one and its scale
        Low-rank adapters that are added: directories of PEFT, or what has been opened, such as
        `lrc.convert.gguf.lora.GgufAdapter`.

    Raises
    ------
    FormatError
        When a file is missing or malformed, or a tensor is not what the configuration implies.
    UnsupportedModelError
        When the configuration or a tensor asks for something that is not computed here.

    Examples
    --------
    >>> import lrc
    >>> with lrc.load("SmolLM2-135M") as loaded:  # doctest: +SKIP
    ...     print("".join(loaded.generate("The capital of France is", 5)))
    """
    if adapters:
        from lrc.models.adapted import open_adapted

        model, source = open_adapted(path, [_scaled(given) for given in adapters])
    else:
        from lrc.models.opened import open_model

        model, source = open_model(path)
    return LoadedModel(model, Tokenizer.open(source.path), source, source.path)


def _scaled(given: Any) -> tuple[Adapter, float]:
    """An adapter and what it is multiplied with."""
    adapter, scale = given if isinstance(given, tuple) else (given, 1.0)
    if not math.isfinite(scale):
        raise SpecError(f"an adapter has the scale {scale}; expected a number")
    if isinstance(adapter, str | Path):
        from lrc.models.peft_adapter import PeftAdapter

        adapter = PeftAdapter(Path(adapter))
    return adapter, float(scale)
