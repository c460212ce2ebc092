"""The tokenizer inside a GGUF file, as the files of a Hugging Face directory.

Byte-level BPE only (``tokenizer.ggml.model = "gpt2"``). How text is cut before BPE is known in
GGUF only by a name, ``tokenizer.ggml.pre``; a wrong cut gives silently worse text, so a name
that is not in the table is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrc.base.atomic import json_bytes
from lrc.errors import FormatError, UnsupportedModelError

_CONTROL, _USER_DEFINED = 3, 4
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


#: Name in GGUF to (pre-tokenizer, BPE keeps whole words that are tokens, BOS when not said).
_PRE: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "gpt-2": (_byte_level(use_regex=True), False, False),
    "smollm": (
        _sequence({"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)),
        False,
        False,
    ),
    "llama-bpe": (
        _sequence(
            {
                "type": "Split",
                "pattern": {"Regex": _LLAMA3_SPLIT},
                "behavior": "Isolated",
                "invert": False,
            },
            _byte_level(use_regex=False),
        ),
        True,
        True,
    ),
}


def special_ids(fields: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """Ids of bos, eos and pad as a generation config has them; eos is a list when eot differs.

    Raises
    ------
    FormatError
        An id is not an integer below ``vocab_size``.
    """
    names = {"bos": "bos", "eos": "eos", "eot": "eot", "pad": "padding"}
    found = {name: _token_id(fields, key, vocab_size) for name, key in names.items()}
    ids: dict[str, Any] = {
        f"{name}_token_id": found[name] for name in ("bos", "eos", "pad") if found[name] is not None
    }
    if None not in (found["eos"], found["eot"]) and found["eot"] != found["eos"]:
        ids["eos_token_id"] = [found["eos"], found["eot"]]
    return ids


def _token_id(fields: Mapping[str, Any], key: str, vocab_size: int) -> int | None:
    value = fields.get(f"tokenizer.ggml.{key}_token_id")
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < vocab_size:
        raise FormatError(f"{key}_token_id is {value!r}; expected an id below {vocab_size}")
    return value


def write_tokenizer(fields: Mapping[str, Any], directory: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json.

    Parameters
    ----------
    fields
        Every key and value of the GGUF file.
    directory
        An existing directory.

    Raises
    ------
    UnsupportedModelError
        Not byte-level BPE, or a pre-tokenizer that is not in the table.
    FormatError
        The token lists are missing or do not fit together, or the tokenizer does not build.
    """
    import tokenizers

    tokens = _strings(fields, "tokens")
    built = _tokenizer(fields, tokens)
    try:
        tokenizers.Tokenizer.from_str(json.dumps(built))
    except Exception as error:  # tokenizers raises bare Exception
        raise FormatError(f"the GGUF tokenizer cannot be built: {error}") from error
    special = _special_tokens(fields, tokens)
    (directory / "tokenizer.json").write_bytes(json_bytes(built))
    (directory / "special_tokens_map.json").write_bytes(json_bytes(special))
    (directory / "tokenizer_config.json").write_bytes(json_bytes(_config(fields, special, built)))


def _tokenizer(fields: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    """Content of tokenizer.json."""
    pre, whole_words, _ = _PRE[_pre_name(fields)]
    kinds = fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if len(kinds) != len(tokens):
        raise FormatError(f"GGUF has {len(tokens)} tokens but {len(kinds)} token types")
    vocab = {token: i for i, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        raise FormatError("GGUF gives the same token twice")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(i, tokens[i], special=kind == _CONTROL)
            for i, kind in enumerate(kinds)
            if kind in (_CONTROL, _USER_DEFINED)
        ],
        "normalizer": None,
        "pre_tokenizer": pre,
        "post_processor": _post_processor(fields, tokens),
        "decoder": _byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": whole_words,
            "vocab": vocab,
            "merges": [_merge(text) for text in _strings(fields, "merges")],
        },
    }


def _pre_name(fields: Mapping[str, Any]) -> str:
    model, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if model != "gpt2":
        raise UnsupportedModelError(
            f"the GGUF file has a tokenizer of kind {model!r}; only 'gpt2' (byte-level BPE) can "
            "be converted: take tokenizer.json from the original model"
        )
    if pre not in _PRE:
        raise UnsupportedModelError(
            f"the GGUF file names the pre-tokenizer {pre!r}; known: {', '.join(_PRE)}"
        )
    return str(pre)


def _strings(fields: Mapping[str, Any], key: str) -> list[str]:
    values = fields.get(f"tokenizer.ggml.{key}")
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise FormatError(f"the GGUF file has no list of strings tokenizer.ggml.{key}")
    return values


def _merge(text: str) -> list[str]:
    """Split ``"a b"``; bytes of text are never a plain space in this alphabet."""
    parts = text.split(" ")
    if len(parts) != 2 or not all(parts):
        raise FormatError(f"GGUF has the merge {text!r}; expected two parts and a space between")
    return parts


def _added(index: int, content: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": index,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def _adds_bos(fields: Mapping[str, Any]) -> bool:
    return bool(fields.get("tokenizer.ggml.add_bos_token", _PRE[_pre_name(fields)][2]))


def _post_processor(fields: Mapping[str, Any], tokens: list[str]) -> dict[str, Any] | None:
    """Prepend BOS when special tokens are asked for and the file says so."""
    bos = special_ids(fields, len(tokens)).get("bos_token_id")
    if bos is None or not _adds_bos(fields):
        return None
    start = {"SpecialToken": {"id": tokens[bos], "type_id": 0}}
    first, second = ({"Sequence": {"id": s, "type_id": i}} for i, s in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [start, first],
        "pair": [start, first, start, second],
        "special_tokens": {tokens[bos]: {"id": tokens[bos], "ids": [bos], "tokens": [tokens[bos]]}},
    }


def _special_tokens(fields: Mapping[str, Any], tokens: list[str]) -> dict[str, str]:
    """``bos_token``, ``eos_token``, ``unk_token`` and ``pad_token`` as text, where given."""
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {name: _token_id(fields, key, len(tokens)) for name, key in names.items()}
    return {f"{name}_token": tokens[i] for name, i in ids.items() if i is not None}


def _config(
    fields: Mapping[str, Any], special: Mapping[str, str], built: Mapping[str, Any]
) -> dict[str, Any]:
    """Content of tokenizer_config.json."""
    added = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in built["added_tokens"]}
    config: dict[str, Any] = {
        "add_bos_token": _adds_bos(fields),
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
        **special,
        "model_max_length": fields.get("llama.context_length"),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    template = fields.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    return config
