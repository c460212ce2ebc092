"""The tokenizer inside a GGUF file, as the files of a Hugging Face directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrc.base.atomic import json_bytes
from lrc.convert.gguf.byte_level import byte_level_parts, pre_tokenizer
from lrc.convert.gguf.sentencepiece import bpe_parts, spelled, unigram_parts
from lrc.convert.gguf.vocabulary import CONTROL, UNKNOWN, USER_DEFINED, Vocabulary, token_id
from lrc.errors import FormatError, UnsupportedModelError

Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """What a value of ``tokenizer.ggml.model`` stands for.

    Attributes
    ----------
    parts
        Normalizer, pre-tokenizer, decoder and model of tokenizer.json.
    texts
        Every token as tokenizer.json writes it.
    adds
        Whether BOS and EOS are added where the file does not say so.
    ids
        Ids of bos, eos, unknown and padding where the file does not give them.
    """

    parts: Callable[[Vocabulary], Json]
    texts: Callable[[Vocabulary], list[str]]
    adds: Callable[[Vocabulary], tuple[bool, bool]]
    ids: Mapping[str, int]


#: Kinds of tokenizers, and what llama.cpp takes for keys that a file lacks.
KINDS = {
    "gpt2": Kind(
        byte_level_parts, lambda v: v.tokens, lambda v: (pre_tokenizer(v).adds_bos, False), {}
    ),
    "llama": Kind(bpe_parts, spelled, lambda _: (True, False), {"bos": 1, "eos": 2, "unknown": 0}),
    "t5": Kind(
        unigram_parts, spelled, lambda _: (False, True), {"eos": 1, "unknown": 2, "padding": 0}
    ),
}
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


def special_ids(fields: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """Ids of bos, eos and pad as a generation config has them; eos is a list when eot differs.

    Raises
    ------
    FormatError
        An id is not an integer below ``vocab_size``.
    """
    defaults = _kind(fields).ids
    found = {
        name: token_id(fields, key, vocab_size)
        for name, key in (*_ROLES.items(), ("eot", "eot"))
        if name != "unk"
    }
    ids: Json = {}
    for name in ("bos", "eos", "pad"):
        value = found[name] if found[name] is not None else defaults.get(_ROLES[name])
        if value is not None and value < vocab_size:
            ids[f"{name}_token_id"] = value
    if found["eot"] not in (None, ids.get("eos_token_id")) and "eos_token_id" in ids:
        ids["eos_token_id"] = [ids["eos_token_id"], found["eot"]]
    return ids


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
        A kind of tokenizer, or a pre-tokenizer, that is not in the table.
    FormatError
        The token lists are missing or do not fit together, or the tokenizer does not build.
    """
    import tokenizers

    kind = _kind(fields)
    vocabulary = Vocabulary.read(fields)
    texts = kind.texts(vocabulary)
    special = _special_tokens(kind, vocabulary, texts)
    adds = _adds(kind, vocabulary)
    built = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(vocabulary, texts),
        "post_processor": _post_processor(special, texts, adds),
        **kind.parts(vocabulary),
    }
    try:
        tokenizers.Tokenizer.from_str(json.dumps(built))
    except Exception as error:  # tokenizers raises bare Exception
        raise FormatError(f"the GGUF tokenizer cannot be built: {error}") from error
    (directory / "tokenizer.json").write_bytes(json_bytes(built))
    (directory / "special_tokens_map.json").write_bytes(json_bytes(special))
    config = _config(vocabulary, special, built["added_tokens"], adds)
    (directory / "tokenizer_config.json").write_bytes(json_bytes(config))


def _kind(fields: Mapping[str, Any]) -> Kind:
    model = fields.get("tokenizer.ggml.model")
    if model not in KINDS:
        raise UnsupportedModelError(
            f"the GGUF file has a tokenizer of kind {model!r}; known are {', '.join(KINDS)}: take "
            "tokenizer.json from the original model"
        )
    return KINDS[model]


def _added_tokens(vocabulary: Vocabulary, texts: list[str]) -> list[Json]:
    """Tokens that are cut out of the text before all else."""
    sentencepiece = vocabulary.get("model") != "gpt2"
    special = (CONTROL, UNKNOWN) if sentencepiece else (CONTROL,)
    strips = _strips_right(vocabulary)
    return [
        {
            "id": i,
            "content": texts[i],
            "single_word": False,
            "lstrip": False,
            "rstrip": i in strips,
            "normalized": False,
            "special": vocabulary.kinds[i] in special,
        }
        for i in vocabulary.of_kind(*special, USER_DEFINED)
    ]


def _strips_right(vocabulary: Vocabulary) -> set[int]:
    """Tokens that take the spaces after them along: most special ones of Phi-3, by its files."""
    fields = vocabulary.fields
    if fields.get("general.architecture") != "phi3" or vocabulary.get("model") != "llama":
        return set()
    kept = {"<unk>", "<s>", "<|endoftext|>"}
    return {
        i for i in vocabulary.of_kind(CONTROL, USER_DEFINED) if vocabulary.tokens[i] not in kept
    }


def _adds(kind: Kind, vocabulary: Vocabulary) -> tuple[bool, bool]:
    """Whether BOS is put before a text, and EOS after it."""
    bos, eos = kind.adds(vocabulary)
    return vocabulary.flag("add_bos_token", bos), vocabulary.flag("add_eos_token", eos)


def _special_tokens(kind: Kind, vocabulary: Vocabulary, texts: list[str]) -> dict[str, str]:
    """``bos_token``, ``eos_token``, ``unk_token`` and ``pad_token`` as text, where given."""
    ids = {name: vocabulary.named(key, kind.ids.get(key)) for name, key in _ROLES.items()}
    return {f"{name}_token": texts[i] for name, i in ids.items() if i is not None}


def _post_processor(
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


def _config(
    vocabulary: Vocabulary,
    special: Mapping[str, str],
    added_tokens: list[Json],
    adds: tuple[bool, bool],
) -> Json:
    """Content of tokenizer_config.json."""
    fields = vocabulary.fields
    added = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added_tokens}
    config: Json = {
        "add_bos_token": adds[0],
        "add_eos_token": adds[1],
        "add_prefix_space": vocabulary.get("model") != "gpt2"
        and vocabulary.flag("add_space_prefix", True),
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
        **special,
        "model_max_length": fields.get(f"{fields.get('general.architecture')}.context_length"),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    template = fields.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    return config
