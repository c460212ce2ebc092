"""Opening a model directory, dense or compressed, ready to run."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrc.base.progress import SILENT, Progress
from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.run.generate import generate
from lrc.run.stops import until_stop
from lrc.run.text import TokenIds, Tokenizer, text_pieces

if TYPE_CHECKING:
    from lrc.formats.safetensors.checkpoint import Checkpoint
    from lrc.parts.packed import PackedCheckpoint
    from lrc.run.chat import Message
    from lrc.run.sampler import Sampler
    from lrc.run.transcribe import Segment

#: Most tokens of `LoadedModel.generate` unless told.
MAX_NEW_TOKENS = 512


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer and where both came from; made by :func:`load`.

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
        progress: Progress = SILENT,
    ) -> Generator[str, None, None]:
        """Continue a text or answer a conversation, up to where the model ends it.

        Parameters
        ----------
        prompt : str or sequence of {"role": ..., "content": ...}
            A text to go on from as it stands, or messages for the model's chat template.
        max_new_tokens : int or None
            Most tokens; None is 512, or what the model's context leaves.
        sampler, threads, activations, progress
            As of :func:`lrc.generate`, except that ``threads`` is every processor by default.
        stop : sequence of str
            Texts before which the answer ends, wherever they come up in it.

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
        tokens = generate(
            self.model, ids, max_new_tokens, sampler, self.tokenizer.eos_ids,
            threads=threads, activations=activations, progress=progress,
        )  # fmt: skip
        return until_stop(text_pieces(self.tokenizer, tokens), stop)

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


def load(path: str | Path) -> LoadedModel:
    """Open a dense or compressed model: a directory, or ORG/NAME[@REVISION] of the hub.

    The configuration, the tokenizer and the weights' headers are read and checked now, the
    weights themselves when they are first needed; ``model.notes`` says what is not read.

    Raises
    ------
    FormatError
        When a file is missing or malformed, or a tensor is not what the configuration implies.
    UnsupportedModelError
        When the configuration or a tensor asks for something that is not computed here.

    Examples
    --------
    >>> import lrc
    >>> loaded = lrc.load("SmolLM2-135M")  # doctest: +SKIP
    >>> "".join(loaded.generate("The capital of France is", 5))  # doctest: +SKIP
    """
    from lrc.models.opened import open_model

    model, source = open_model(path)
    return LoadedModel(model, Tokenizer.open(source.path), source, source.path)
