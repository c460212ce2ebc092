"""Tokens that start and end texts and messages: their ids and texts, and where they are added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrc.convert.gguf.kinds import kind_of
from lrc.convert.gguf.vocabulary import CONTROL, USER_DEFINED, Vocabulary, token_id

Json = dict[str, Any]
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


#: Tokens that end a turn of a conversation, which few files name under ``eot_token_id``.
_ENDS_OF_MESSAGE = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>")


def special_ids(fields: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """Ids of bos, eos and pad as a generation config has them.

    eos is a list where messages end otherwise than texts, by the file or the names of its tokens.

    Raises
    ------
    FormatError
        An id is not an integer below ``vocab_size``.
    """
    defaults = kind_of(fields).ids
    ids: Json = {}
    for name in ("bos", "eos", "pad"):
        value = token_id(fields, _ROLES[name], vocab_size)
        value = defaults.get(_ROLES[name]) if value is None else value
        if value is not None and value < vocab_size:
            ids[f"{name}_token_id"] = value
    messages = [token_id(fields, "eot", vocab_size), *_ends_of_message(fields)]
    ends = [ids.get("eos_token_id"), *(i for i in messages if i is not None)]
    if ends[0] is not None and len(set(ends)) > 1:
        ids["eos_token_id"] = list(dict.fromkeys(ends))
    return ids


def _ends_of_message(fields: Mapping[str, Any]) -> list[int]:
    """Ids of tokens that end a turn by their names, if they are cut out of the text whole."""
    vocabulary = Vocabulary.read(fields)
    whole = vocabulary.of_kind(CONTROL, USER_DEFINED)
    return [i for i in whole if vocabulary.tokens[i] in _ENDS_OF_MESSAGE]


def special_texts(vocabulary: Vocabulary, texts: list[str]) -> dict[str, str]:
    """``bos_token``, ``eos_token``, ``unk_token`` and ``pad_token`` as text, where given."""
    defaults = kind_of(vocabulary.fields).ids
    ids = {name: vocabulary.named(key, defaults.get(key)) for name, key in _ROLES.items()}
    return {f"{name}_token": texts[i] for name, i in ids.items() if i is not None}


def post_processor(
    special: Mapping[str, str], texts: list[str], adds: tuple[bool, bool]
) -> Json | None:
    """Put BOS and EOS around a text when special tokens are asked for and the file says so."""
    names = [special.get(f"{name}_token") for name in ("bos", "eos")]
    bos, eos = (name if add else None for name, add in zip(names, adds, strict=True))
    if bos is None and eos is None:
        return None

    def around(index: int) -> list[Json]:
        text: list[Json] = [{"Sequence": {"id": "AB"[index], "type_id": index}}]
        before, after = (
            [] if name is None else [{"SpecialToken": {"id": name, "type_id": index}}]
            for name in (bos, eos)
        )
        return [*before, *text, *after]

    return {
        "type": "TemplateProcessing",
        "single": around(0),
        "pair": [*around(0), *around(1)],
        "special_tokens": {
            name: {"id": name, "ids": [texts.index(name)], "tokens": [name]}
            for name in (bos, eos)
            if name is not None
        },
    }
