"""Text to token ids and back: the model's own tokenizer, chat template and special ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrc.chat import render_chat
from lrc.errors import CalibrationError, FormatError, SpecError
from lrc.formats.diagnose import no_tokenizer
from lrc.formats.lfs import refuse_pointer
from lrc.formats.strict_json import read_object

if TYPE_CHECKING:
    import tokenizers

TokenIds = NDArray[np.int32]
_REPLACEMENT = "\ufffd"


class Tokenizer:
    """A ``tokenizer.json`` with the special ids and the chat template that belong to it.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
    eos_ids : tuple of int
        Ids that end a text, ascending.
    bos_id : int or None
        Id that starts a text.
    chat_template : str or None
        Jinja template of a conversation.
    special : mapping of str to str
        Special tokens by role, such as ``bos_token``; the template sees them.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        eos_ids: tuple[int, ...] = (),
        bos_id: int | None = None,
        chat_template: str | None = None,
        special: Mapping[str, str] | None = None,
    ) -> None:
        self.backend = backend
        self.eos_ids = eos_ids
        self.bos_id = bos_id
        self.chat_template = chat_template
        self.special = dict(special or {})

    @classmethod
    def open(cls, path: str | Path) -> Tokenizer:
        """Read the tokenizer of a model directory.

        ``eos_ids`` unites what ``generation_config.json`` (else ``config.json``) and
        ``tokenizer_config.json`` name; ``bos_id`` is the first found in the same order.

        Raises
        ------
        FormatError
            When ``tokenizer.json`` is missing or not valid, or a JSON file is malformed.
        """
        import tokenizers

        path = Path(path)
        file = path / "tokenizer.json"
        if not file.is_file():
            raise FormatError(no_tokenizer(path))
        refuse_pointer(file)
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the binding raises bare Exception
            raise FormatError(f"{file} is not a valid tokenizer: {error}") from error
        settings = _read_json(path / "tokenizer_config.json")
        special = _special_tokens(settings)
        models = [_read_json(path / name) for name in ("generation_config.json", "config.json")]
        eos = next(filter(None, (_id_list(m.get("eos_token_id")) for m in models)), [])
        bos = next(filter(None, (_id_list(m.get("bos_token_id")) for m in models)), [])
        eos = eos + _id_list(backend.token_to_id(special.get("eos_token", "")))
        bos = bos + _id_list(backend.token_to_id(special.get("bos_token", "")))
        return cls(
            backend,
            tuple(sorted(set(eos))),
            bos[0] if bos else None,
            _chat_template(path, settings),
            special,
        )

    def encode(self, text: str, add_special: bool = False) -> TokenIds:
        """Token ids (T,) int32 of ``text``; ``add_special`` adds what the tokenizer adds."""
        return np.asarray(self.backend.encode(text, add_special_tokens=add_special).ids, np.int32)

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of token ids."""
        text: str = self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special)
        return text

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Text of a conversation, up to where the model is to answer.

        Parameters
        ----------
        messages : sequence of {"role": ..., "content": ...}

        Raises
        ------
        SpecError
            When the model has no chat template, or the template refuses the messages.
        """
        if self.chat_template is None:
            raise SpecError("this model has no chat template; give a plain prompt instead")
        return render_chat(self.chat_template, messages, self.special)

    def apply_chat(self, messages: Sequence[Mapping[str, str]]) -> TokenIds:
        """Token ids (T,) int32 of `render_chat`."""
        return self.encode(self.render_chat(messages))


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


def _read_json(path: Path) -> dict[str, Any]:
    """Contents of a JSON object file; empty where there is none."""
    return read_object(path, unique=False) if path.is_file() else {}


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Roles such as ``bos_token`` to their text; a token is a string or {"content": string}."""
    found = {}
    for key, value in settings.items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(text, str):
            found[key] = text
    return found


def _id_list(value: object) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, int) and not isinstance(v, bool)]


def _chat_template(path: Path, settings: Mapping[str, Any]) -> str | None:
    """Template from ``chat_template.jinja`` or ``tokenizer_config.json`` ("default" of a list)."""
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text("utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
