"""The tokenizer inside a GGUF file, as the files of a Hugging Face directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrc.base.atomic import json_bytes
from lrc.convert.gguf.kinds import Kind, kind_of
from lrc.convert.gguf.special_tokens import post_processor, special_texts
from lrc.convert.gguf.vocabulary import CONTROL, UNKNOWN, USER_DEFINED, Vocabulary
from lrc.errors import FormatError

Json = dict[str, Any]


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

    kind = kind_of(fields)
    vocabulary = Vocabulary.read(fields)
    texts = kind.texts(vocabulary)
    special = special_texts(vocabulary, texts)
    adds = _adds(kind, vocabulary)
    built = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(vocabulary, texts),
        "post_processor": post_processor(special, texts, adds),
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
    template = chat_template(fields)
    return config if template is None else {**config, "chat_template": template}


def chat_template(fields: Mapping[str, Any]) -> str | list[dict[str, str]] | None:
    """The template of a conversation, or several by name as tokenizer_config.json has them."""
    default = fields.get("tokenizer.chat_template")
    prefix = "tokenizer.chat_template."
    named = {k.removeprefix(prefix): v for k, v in fields.items() if k.startswith(prefix)}
    if not named:
        return default if isinstance(default, str) else None
    given = {"default": default, **named}
    return [{"name": k, "template": v} for k, v in given.items() if isinstance(v, str)]
