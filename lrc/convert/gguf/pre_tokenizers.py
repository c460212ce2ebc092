"""How text is cut into words before byte-level BPE, by the name that GGUF has for it.

A GGUF file holds no pre-tokenizer, only its name in ``tokenizer.ggml.pre``. A row has what the
``tokenizer.json`` of that name's model says; where llama.cpp's own cut approximates it, the
model's counts. A wrong cut gives silently worse text, so a name without a row is refused, and so
is ``default``, which says that whoever wrote the file did not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class PreTokenizer:
    """What a name stands for.

    Attributes
    ----------
    steps
        Steps in the form of ``tokenizer.json``, the last of them to bytes.
    nfc
        Whether text is brought to Unicode's composed form first.
    whole_words
        Whether a word that is a token is taken whole, whatever the merges say.
    adds_bos
        Whether a text starts with BOS where the file does not say so.
    """

    steps: tuple[Json, ...]
    nfc: bool = False
    whole_words: bool = False
    adds_bos: bool = False

    @property
    def json(self) -> Json:
        """Value of ``pre_tokenizer`` in tokenizer.json."""
        if len(self.steps) == 1:
            return self.steps[0]
        return {"type": "Sequence", "pretokenizers": list(self.steps)}


def byte_level(*, use_regex: bool) -> Json:
    """Bytes as letters; with ``use_regex``, after cutting as GPT-2 does."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _digits(*, individual: bool) -> Json:
    return {"type": "Digits", "individual_digits": individual}


def _split(pattern: str) -> Json:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


_BYTES, _GPT2 = byte_level(use_regex=False), byte_level(use_regex=True)
_ENGLISH = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CJK = "[一-龥ࠀ-一가-퟿]+"
#: Letters of alphabets with two cases; numbers stand for those that Unicode composes to others.
_CASED = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅ"
    "Ὀ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄ"
    "Ⰰ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)


def _words(numbers: str, letters: str = rf"{_ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+") -> str:
    """Pattern of the tiktoken kind, of these words and numbers, symbols and spaces."""
    return rf"{letters}|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"


def _by_case(numbers: str, suffix: str) -> str:
    """Pattern whose words end where lower case turns to upper; ``suffix`` follows a word."""
    start = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{start}{_UPPER}*{_LOWER}+{suffix}|{start}{_UPPER}+{_LOWER}*{suffix}"
        rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
    )


_SEED_CODER = (
    _split(
        rf"{_ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
    ),
    _BYTES,
)
_QWEN35 = (
    _split(
        rf"{_ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
        rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
    ),
    _BYTES,
)
_LLAMA3 = (_split(_words(r"\p{N}{1,3}")), _BYTES)
_QWEN2 = (_split(_words(r"\p{N}")), _BYTES)
_O200K = (_split(_by_case(r"\p{N}{1,3}", f"{_ENGLISH}?")), _BYTES)
_CODE = (_digits(individual=True), _GPT2)
_BLOOM = _split(" ?[^(\\s|[.,!?…。，、।۔،])]+")

_PUNCTUATED_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_DEEPSEEK3 = (
    _split(r"\p{N}{1,3}"),
    _split("[一-龥぀-ゟ゠-ヿ]+"),
    _split(
        rf"{_PUNCTUATED_WORD}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
    ),
    _BYTES,
)


def _deepseek(*steps: Json) -> tuple[Json, ...]:
    return (_split("[\r\n]"), *steps, _split(_CJK), _digits(individual=True), _BYTES)


#: Name in ``tokenizer.ggml.pre`` to what it stands for.
PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "gpt-2": PreTokenizer((_GPT2,)),
    "phi-2": PreTokenizer((_GPT2,)),
    "mpt": PreTokenizer((_GPT2,), nfc=True),
    "olmo": PreTokenizer((_GPT2,), nfc=True),
    "smollm": PreTokenizer(_CODE),
    "starcoder": PreTokenizer(_CODE),
    "refact": PreTokenizer(_CODE),
    "command-r": PreTokenizer(_CODE, nfc=True),
    "llama-bpe": PreTokenizer(_LLAMA3, whole_words=True, adds_bos=True),
    "llama3": PreTokenizer(_LLAMA3, whole_words=True, adds_bos=True),
    "llama-v3": PreTokenizer(_LLAMA3, whole_words=True, adds_bos=True),
    "smaug-bpe": PreTokenizer(_LLAMA3),
    "dbrx": PreTokenizer(_LLAMA3),
    "qwen2": PreTokenizer(_QWEN2, nfc=True),
    "deepseek-r1-qwen": PreTokenizer(_QWEN2, nfc=True),
    "qwen35": PreTokenizer(_QWEN35, nfc=True),
    "seed-coder": PreTokenizer(_SEED_CODER),
    "stablelm2": PreTokenizer(_QWEN2, nfc=True),
    "gpt-4o": PreTokenizer(_O200K),
    "llama4": PreTokenizer(_O200K),
    "tekken": PreTokenizer(
        (_split(_by_case(r"\p{N}", "")), _BYTES), whole_words=True, adds_bos=True
    ),
    "falcon": PreTokenizer(
        (
            {"type": "Punctuation", "behavior": "Contiguous"},
            _GPT2,
            _digits(individual=False),
            _split("[0-9][0-9][0-9]"),
        )
    ),
    "deepseek-llm": PreTokenizer(
        _deepseek(
            _split(rf"\s?[{_CASED}]+"), _split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), _split(r"\s+$")
        )
    ),
    "deepseek-coder": PreTokenizer(_deepseek(_split(r"\s?\p{L}+"), _split(r"\s?\p{P}+"))),
    "deepseek-v3": PreTokenizer(_DEEPSEEK3),
    "bloom": PreTokenizer((_BLOOM, _BYTES)),
    "poro-chat": PreTokenizer((_BLOOM, _BYTES)),
    "viking": PreTokenizer((_BLOOM, _digits(individual=True), _BYTES)),
}
