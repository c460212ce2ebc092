"""The token lists of a GGUF file, and the ids and flags that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrc.errors import FormatError, UnsupportedModelError

#: Kinds of tokens in ``tokenizer.ggml.token_type``.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

_USED = {
    "model", "pre", "tokens", "token_type", "scores", "merges", "bos_token_id", "eos_token_id",
    "eot_token_id", "unknown_token_id", "padding_token_id", "add_bos_token", "add_eos_token",
    "add_space_prefix", "remove_extra_whitespaces", "precompiled_charsmap",
}  # fmt: skip
#: Ids that name tokens for other tasks, and what only other kinds of tokenizers read.
_HARMLESS = {
    "eom_token_id", "seperator_token_id", "mask_token_id", "cls_token_id", "token_type_count",
    "fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id", "fim_pad_token_id",
    "fim_rep_token_id", "fim_sep_token_id", "prefix_token_id", "suffix_token_id",
    "middle_token_id",
}  # fmt: skip
#: Flags that would change how text is cut, where they are true.
_OFF = {"add_sep_token", "normalizer.lowercase", "normalizer.strip_accents"}
_PREFIX = "tokenizer.ggml."


@dataclass(frozen=True)
class Vocabulary:
    """Tokens of a GGUF file by id.

    Attributes
    ----------
    tokens
        As the file writes them.
    kinds
        One of the constants of this module for each.
    fields
        Every key and value of the file.
    """

    tokens: list[str]
    kinds: list[int]
    fields: Mapping[str, Any]

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Vocabulary:
        """Take the token lists from the keys and values of a file.

        Raises
        ------
        FormatError
            The lists are missing or do not fit together.
        UnsupportedModelError
            A setting of the tokenizer is not known.
        """
        _check_keys(fields)
        tokens = _strings(fields, "tokens")
        kinds = fields.get(_PREFIX + "token_type") or [NORMAL] * len(tokens)
        if len(kinds) != len(tokens):
            raise FormatError(f"GGUF has {len(tokens)} tokens but {len(kinds)} token types")
        if len(set(tokens)) != len(tokens):
            raise FormatError("GGUF gives the same token twice")
        return cls(tokens, kinds, fields)

    def get(self, key: str, default: Any = None) -> Any:
        """Value of ``tokenizer.ggml.`` and ``key``."""
        return self.fields.get(_PREFIX + key, default)

    def flag(self, key: str, default: bool) -> bool:
        """A value that is true or false.

        Raises
        ------
        FormatError
            It is something else.
        """
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise FormatError(f"{_PREFIX}{key} is {value!r} in the GGUF file; expected a bool")
        return value

    def named(self, key: str, default: int | None = None) -> int | None:
        """The id in ``tokenizer.ggml.KEY_token_id``; ``default`` where the file has no such key."""
        value = token_id(self.fields, key, len(self.tokens))
        if value is None and default is not None and default < len(self.tokens):
            return default
        return value

    def of_kind(self, *kinds: int) -> list[int]:
        """Ids of the tokens of these kinds, ascending."""
        return [i for i, kind in enumerate(self.kinds) if kind in kinds]

    def merges(self) -> list[list[str]]:
        """Pairs of tokens that are joined, in their order.

        Raises
        ------
        FormatError
            There are none, or one is no pair.
        """
        return [_pair(text) for text in _strings(self.fields, "merges")]

    def scores(self) -> list[float]:
        """Log-probability or priority of each token.

        Raises
        ------
        FormatError
            There is not one for each.
        """
        values = self.get("scores")
        if not isinstance(values, list) or len(values) != len(self.tokens):
            raise FormatError(f"the GGUF file has no list of {len(self.tokens)} {_PREFIX}scores")
        return [float(value) for value in values]


def _strings(fields: Mapping[str, Any], key: str) -> list[str]:
    values = fields.get(_PREFIX + key)
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise FormatError(f"the GGUF file has no list of strings {_PREFIX}{key}")
    return values


def _pair(text: str) -> list[str]:
    """Split ``"a b"``; tokens write spaces otherwise."""
    parts = text.split(" ")
    if len(parts) != 2 or not all(parts):
        raise FormatError(f"GGUF has the merge {text!r}; expected two parts and a space between")
    return parts


def token_id(fields: Mapping[str, Any], key: str, vocab_size: int) -> int | None:
    """The id in ``tokenizer.ggml.KEY_token_id``, if there is one.

    Raises
    ------
    FormatError
        It is not an integer below ``vocab_size``.
    """
    value = fields.get(f"{_PREFIX}{key}_token_id")
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < vocab_size:
        raise FormatError(f"{key}_token_id is {value!r}; expected an id below {vocab_size}")
    return value


def _check_keys(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        key = name.removeprefix(_PREFIX)
        if key == name or key in _USED | _HARMLESS or (key in _OFF and not value):
            continue
        raise UnsupportedModelError(f"the GGUF setting {name}={value!r:.60} is not supported")
