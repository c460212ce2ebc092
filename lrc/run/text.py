"""Text to token ids and back: the model's own tokenizer, chat template and special ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.lfs import refuse_pointer
from lrc.errors import CalibrationError, FormatError, SpecError
from lrc.formats.diagnose import no_tokenizer
from lrc.run.chat import Message, render_chat
from lrc.run.chat_templates import DEFAULT, choose_template, read_templates
from lrc.run.special_tokens import SETTINGS, add_named_tokens, read_optional

if TYPE_CHECKING:
    import tokenizers

TokenIds = NDArray[np.int32]
_REPLACEMENT = "\ufffd"
#: Halves of a UTF-16 pair: text of broken JSON or of bytes that are no UTF-8 has them.
_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """A ``tokenizer.json`` with the special ids and the chat templates that belong to it.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
    eos_ids : tuple of int
        Ids that end a text, ascending.
    bos_id : int or None
        Id that starts a text.
    chat_template : str, mapping of str to str, or None
        Jinja template of a conversation, or several by name.
    special : mapping of str to str
        Special tokens by role, such as ``bos_token``; the template sees them.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        eos_ids: tuple[int, ...] = (),
        bos_id: int | None = None,
        chat_template: str | Mapping[str, str] | None = None,
        special: Mapping[str, str] | None = None,
    ) -> None:
        self.backend = backend
        self.eos_ids = eos_ids
        self.bos_id = bos_id
        if isinstance(chat_template, str):
            chat_template = {DEFAULT: chat_template}
        self.chat_templates = dict(chat_template or {})
        self.special = dict(special or {})

    @classmethod
    def open(cls, path: str | Path) -> Tokenizer:
        """Read the tokenizer of a model directory.

        ``tokenizer.json`` says how text is cut and what is added around it (``add_bos_token``
        and ``tokenizer_class`` in ``tokenizer_config.json`` change nothing about that); tokens
        that are only named beside it are added. Truncation, padding and dropout are for
        training and never applied. ``eos_ids`` unites what ``generation_config.json`` (else
        ``config.json``) and ``tokenizer_config.json`` name; ``bos_id`` is the first found in the
        same order.

        Raises
        ------
        FormatError
            When ``tokenizer.json`` is missing or not valid, a JSON file is malformed, or the
            files do not agree on the id of a token.
        """
        path = Path(path)
        backend = _open_backend(path)
        special = add_named_tokens(backend, path)
        split = read_optional(path / SETTINGS).get("split_special_tokens")
        backend.encode_special_tokens = bool(split)
        models = [read_optional(path / name) for name in ("generation_config.json", "config.json")]
        eos = next(filter(None, (_id_list(m.get("eos_token_id")) for m in models)), [])
        bos = next(filter(None, (_id_list(m.get("bos_token_id")) for m in models)), [])
        eos = eos + _id_list(backend.token_to_id(special.get("eos_token", "")))
        bos = bos + _id_list(backend.token_to_id(special.get("bos_token", "")))
        return cls(
            backend,
            tuple(sorted(set(eos))),
            bos[0] if bos else None,
            read_templates(path),
            special,
        )

    @property
    def chat_template(self) -> str | None:
        """The template that a conversation takes unless another is named."""
        return self.chat_templates.get(DEFAULT)

    def encode(self, text: str, add_special: bool = False) -> TokenIds:
        """Token ids (T,) int32 of ``text``; ``add_special`` adds what the tokenizer adds.

        Half a UTF-16 pair, which is no character, becomes U+FFFD.
        """
        whole = _SURROGATE.sub(_REPLACEMENT, text)
        return np.asarray(self.backend.encode(whole, add_special_tokens=add_special).ids, np.int32)

    def encode_prompt(self, text: str) -> TokenIds:
        """Token ids (T,) int32 of a text to go on from.

        As `encode` with what the tokenizer adds, but BOS once where the text begins with it,
        and BOS alone for an empty text.
        """
        ids = self.encode(text, add_special=True)
        if self.bos_id is None:
            return ids
        if len(ids) > 1 and ids[0] == ids[1] == self.bos_id:
            return ids[1:]
        return ids if len(ids) else np.asarray([self.bos_id], np.int32)

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of token ids."""
        text: str = self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special)
        return text

    def render_chat(
        self, messages: Sequence[Message], *, template: str | None = None, **options: Any
    ) -> str:
        """Text of a conversation, up to where the model is to answer.

        Parameters
        ----------
        messages : sequence of {"role": ..., "content": ...}
        template : str or None
            Name of one of ``chat_templates``; None takes ``tool_use`` where there are tools and
            such a template, else ``default``.
        **options
            ``tools``, ``documents``, ``add_generation_prompt``, ``continue_final_message`` and
            ``variables`` of `lrc.run.chat.render_chat`.

        Raises
        ------
        SpecError
            When the model has no such template, or the template fails or refuses the messages.
        """
        tools = options.get("tools") is not None
        source = choose_template(self.chat_templates, template, tools=tools)
        return render_chat(source, messages, self.special, **options)

    def apply_chat(
        self, messages: Sequence[Message], *, template: str | None = None, **options: Any
    ) -> TokenIds:
        """Token ids (T,) int32 of `render_chat`."""
        return self.encode(self.render_chat(messages, template=template, **options))


class TextStream:
    """Turns ids into text as they come, never splitting a character.

    Text is held back while it ends in an incomplete UTF-8 sequence. The pieces joined are what
    decoding all ids at once gives (with byte-fallback tokenizers: where the bytes are valid).

    Parameters
    ----------
    tokenizer : Tokenizer
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # from the last but one boundary on: context for the decoder
        self._told = 0  # how many of them have been told

    def push(self, token: int) -> str:
        """Text that ``token`` completes, often a word, or "" while a character is open."""
        self._ids.append(int(token))
        text = self._untold()
        if not text or text.endswith(_REPLACEMENT):
            return ""
        self._ids = self._ids[self._told :]
        self._told = len(self._ids)
        return text

    def flush(self) -> str:
        """Tell what was still held back, with replacement characters for broken sequences."""
        text = self._untold()
        self._told = len(self._ids)
        return text

    def _untold(self) -> str:
        before = self._tokenizer.decode(self._ids[: self._told])
        return self._tokenizer.decode(self._ids)[len(before) :]


def text_pieces(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """Text as its tokens come, never "" and never half a character; the pieces join to it."""
    stream = TextStream(tokenizer)
    for token in ids:
        if piece := stream.push(token):
            yield piece
    if rest := stream.flush():
        yield rest


def token_windows(
    ids: NDArray[np.integer],
    seqlen: int,
    nsamples: int | None = None,
    rng: np.random.Generator | None = None,
) -> TokenIds:
    """Non-overlapping windows of a token stream.

    Parameters
    ----------
    ids : (T,) integers
    seqlen : int
        Tokens a window.
    nsamples : int or None
        At most this many windows; fewer where the text is shorter, all when None.
    rng : numpy.random.Generator or None
        Chooses which windows, spread over the text and in the order of the text; None takes
        the first ones.

    Returns
    -------
    (N, seqlen) int32, N >= 1

    Raises
    ------
    CalibrationError
        When the text is shorter than one window.
    """
    if seqlen < 1 or (nsamples is not None and nsamples < 1):
        raise SpecError(f"seqlen={seqlen} and nsamples={nsamples} must be at least 1")
    count = len(ids) // seqlen
    if count == 0:
        raise CalibrationError(
            f"the text has {len(ids)} tokens and one window needs {seqlen}; "
            "give more text or a shorter window"
        )
    windows = np.asarray(ids[: count * seqlen], np.int32).reshape(count, seqlen)
    if nsamples is None or nsamples >= count:
        return windows
    if rng is None:
        return windows[:nsamples]
    return windows[np.sort(rng.choice(count, nsamples, replace=False))]


def _open_backend(path: Path) -> tokenizers.Tokenizer:
    """The ``tokenizer.json`` of a directory, with nothing on that is for training only."""
    import tokenizers

    file = path / "tokenizer.json"
    if not file.is_file():
        raise FormatError(no_tokenizer(path))
    refuse_pointer(file)
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the binding raises bare Exception
        raise FormatError(f"{file} is not a valid tokenizer: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    if getattr(backend.model, "dropout", None) is not None:
        backend.model.dropout = None
    return backend


def _id_list(value: object) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
