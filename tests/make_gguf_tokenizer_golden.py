"""Write the golden data of `tests/convert/test_gguf_tokenizer_golden.py`.

Needs the extra ``parity``, and the packages ``regex`` and ``sentencepiece``. Run from the
repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_gguf_tokenizer_golden.py

``pre_tokenizers.json`` has the words into which texts are cut under each name, in lengths of
bytes: as the tokenizers of transformers cut, where there is one, and else as the expressions that
llama.cpp lists, applied one after the other by another engine of expressions. Where there are
both, they must agree. ``sentencepiece.json`` has small models that SentencePiece trained, and the
ids that it gives.
"""

from __future__ import annotations

import io
import json
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import regex
import sentencepiece
from gguf_tokenizer_cases import GOLDEN, TEXTS
from sentencepiece import sentencepiece_model_pb2
from transformers import (
    CohereTokenizer,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    Qwen2Tokenizer,
    Qwen3_5Tokenizer,
)
from transformers.integrations.gguf import gguf_tokenizer_mapping as mapping

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
ENGLISH = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{%s}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
BY_CASE = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s"
    r"|\p{N}{%s}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + TAIL
)
CJK = "[一-龥ࠀ-一가-퟿]+"
BLOOM = " ?[^(\\s|.,!?…。，、।۔،)]+"
LATIN1_DIGITS = "[²³¹¼½¾0-9]+"
#: Name to expressions, in the order in which they cut.
EXPRESSIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo"), (GPT2,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r"), (r"\p{N}", GPT2)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx"), (CL100K % "1,3",)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2"), (CL100K % "1",)),
    **dict.fromkeys(("gpt-4o", "llama4"), (BY_CASE % (f"{ENGLISH}?", f"{ENGLISH}?", "1,3"),)),
    "qwen35": (
        ENGLISH + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + TAIL,
    ),
    "seed-coder": (ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + TAIL,),
    "tekken": (BY_CASE % ("", "", "1"),),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", GPT2, LATIN1_DIGITS, "[0-9][0-9][0-9]"),
    "deepseek-llm": (
        "[\r\n]",
        r"\s?[\p{Lu}\p{Ll}\p{Lt}]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        CJK,
        r"\p{N}",
    ),
    "deepseek-coder": ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
        + TAIL,
    ),
    **dict.fromkeys(("bloom", "poro-chat"), (BLOOM,)),
    "viking": (BLOOM, r"\p{N}"),
}
NFC = {"mpt", "olmo", "command-r", "qwen2", "deepseek-r1-qwen", "stablelm2", "qwen35"}
#: Names whose later expressions see bytes written as letters, and from which on.
ON_BYTES = {"falcon": 2}
CLASSES = {
    **dict.fromkeys(("gpt-2", "phi-2"), GPT2Tokenizer),
    **dict.fromkeys(("mpt", "olmo"), GPTNeoXTokenizer),
    "command-r": CohereTokenizer,
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), Qwen2Tokenizer),
    "qwen35": Qwen3_5Tokenizer,
}


def cut(text: str, expression: str) -> list[str]:
    """Matches, and what lies between them, in their order."""
    pieces, at = [], 0
    for match in regex.finditer(expression, text):
        pieces += [text[at : match.start()], match[0]]
        at = match.end()
    return [piece for piece in (*pieces, text[at:]) if piece]


def by_expressions(name: str, text: str) -> list[int]:
    """Lengths of words as the expressions cut, in bytes."""
    words = [unicodedata.normalize("NFC", text) if name in NFC else text]
    letters = mapping.bytes_to_unicode()
    for i, expression in enumerate(EXPRESSIONS[name]):
        if ON_BYTES.get(name) == i:
            words = ["".join(letters[byte] for byte in word.encode()) for word in words]
        words = [piece for word in words for piece in cut(word, expression)]
    return [len(word) if name in ON_BYTES else len(word.encode()) for word in words]


def by_transformers(name: str, text: str) -> list[int] | None:
    """Lengths of words as transformers cuts, in bytes; None where it does not know the name."""
    if name in CLASSES:
        backend = CLASSES[name]().backend_tokenizer
    elif name in mapping.GGUF_PRE_TOKENIZER_SPLITS:
        made = mapping.set_split_regex(GPT2Tokenizer(), {"pre_tokenizer_type": name})
        backend = made.backend_tokenizer
    else:
        return None
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    return [len(word) for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]


def pre_tokenizers() -> list[dict[str, Any]]:
    """Names that cut alike, and the lengths of words of each text."""
    found: dict[str, list[str]] = {}
    for name in EXPRESSIONS:
        lengths = []
        for text in TEXTS:
            first, second = by_expressions(name, text), by_transformers(name, text)
            if second not in (None, first):
                raise RuntimeError(f"{name} on {text!r}: {first} and {second}")
            lengths.append(first)
        found.setdefault(json.dumps(lengths), []).append(name)
    return [{"names": names, "lengths": json.loads(text)} for text, names in found.items()]


#: Name of a model to what SentencePiece is told when it trains it.
TRAINED: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "bpe", "byte_fallback": True},
    "gemma": {
        "model_type": "bpe",
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["\u2581\u2581", "\u2581\u2581\u2581", "\n\n", "<b>"],
    },
    "unigram": {"model_type": "unigram", "byte_fallback": True, "remove_extra_whitespaces": True},
    "t5": {"model_type": "unigram", "remove_extra_whitespaces": True},
}
#: Words of which the models learn.
WORDS = ["the cat sat", "on the  mat", "in the\n\n house", "a <b>bold</b> theory"] * 5
#: Characters that are mapped to others before all else, in hexadecimal.
RULES = "FB01\t66 69\nFF21\t41\nFF11\t31\n2019\t27\n"


def sentencepiece_case(name: str, folder: Path) -> dict[str, Any]:
    """Train a model; the keys that a GGUF file of it has, and the ids of every text."""
    (folder / "rules.tsv").write_text(RULES)
    unigram = TRAINED[name]["model_type"] == "unigram"
    model = io.BytesIO()
    options = {
        "vocab_size": 480 if TRAINED[name].get("byte_fallback") else 200,
        "character_coverage": 0.98,
        "remove_extra_whitespaces": False,
        "num_threads": 1,
        "hard_vocab_limit": False,
        **(
            {"normalization_rule_tsv": str(folder / "rules.tsv")}
            if unigram
            else {"normalization_rule_name": "identity"}
        ),
        **TRAINED[name],
    }
    corpus = [line for text in TEXTS * 3 for line in text.splitlines() if line.isascii()]
    corpus += ["日本 café ﬁ Ａ " + name for name in WORDS]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=model, minloglevel=2, **options
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    encoder = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    charsmap = list(proto.normalizer_spec.precompiled_charsmap)
    fields = {
        "model": "t5" if unigram else "llama",
        "tokens": [
            p.piece.replace("\u2581", " ") if p.type == 4 else p.piece for p in proto.pieces
        ],
        "scores": [float(np.float32(p.score)) for p in proto.pieces],
        "token_type": [p.type for p in proto.pieces],
        "add_space_prefix": proto.normalizer_spec.add_dummy_prefix,
        "remove_extra_whitespaces": proto.normalizer_spec.remove_extra_whitespaces,
        "unknown_token_id": encoder.unk_id(),
        **({"precompiled_charsmap": charsmap} if charsmap else {}),
    }
    texts = [text for text in TEXTS if "\0" not in text]
    return {
        "fields": {f"tokenizer.ggml.{key}": value for key, value in fields.items()},
        "ids": {text: encoder.encode(text) for text in texts},
    }


def main() -> None:
    """Write both files."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        trained = {name: sentencepiece_case(name, Path(folder)) for name in TRAINED}
    for name, content in (("pre_tokenizers", pre_tokenizers()), ("sentencepiece", trained)):
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
