"""The tokenizer of a Hugging Face directory as the keys of a GGUF file.

The other direction of `lrc.convert.gguf.tokenizer`. A cut of the text that no name stands for is
refused: a file that names another gives silently worse text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrc.base.strict_json import read_object
from lrc.convert.gguf.pre_tokenizers import PRE_TOKENIZERS
from lrc.convert.gguf.sentencepiece import SPACE
from lrc.convert.gguf.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from lrc.errors import FormatError, UnsupportedModelError
from lrc.run.text import Tokenizer

Json = dict[str, Any]
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
#: Settings of steps that change what they cut, with what is taken where they are absent.
_MEANS: dict[str, Json] = {
    "ByteLevel": {"add_prefix_space": True, "use_regex": True},
    "Digits": {"individual_digits": False},
    "Split": {"pattern": None, "behavior": None, "invert": False},
    "Punctuation": {"behavior": "Isolated"},
}


def tokenizer_fields(folder: Path, size: int) -> Json:
    """Keys and values of the tokenizer in ``folder``, of a model with ``size`` rows of tokens.

    Raises
    ------
    UnsupportedModelError
        It is of a kind, or cuts text in a way, that no name stands for.
    FormatError
        It has more tokens than the model.
    """
    tokenizer = Tokenizer.open(folder)
    stored = read_object(folder / "tokenizer.json", unique=False)
    model = stored["model"]
    if model.get("type") != "BPE":
        raise UnsupportedModelError(
            f"a tokenizer of type {model.get('type')!r} is not written to GGUF; only BPE is: "
            "export to hf instead"
        )
    if not model["merges"]:
        raise UnsupportedModelError(
            "a tokenizer without merges is not written to GGUF, whose readers join letters by "
            "them: export to hf instead"
        )
    pieces = bool(model.get("byte_fallback"))
    tokens, kinds = _tokens(tokenizer, model, size, pieces=pieces)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    fields: Json = {"model": "llama" if pieces else "gpt2"}
    fields |= _sentencepiece(stored, tokens) if pieces else {"pre": _pre(stored), "merges": merges}
    fields |= {"tokens": tokens, "token_type": kinds, **_ids(tokenizer), **_adds(tokenizer)}
    named = {f"tokenizer.ggml.{key}": value for key, value in fields.items()}
    return named | _templates(tokenizer.chat_templates)


def _tokens(
    tokenizer: Tokenizer, model: Json, size: int, *, pieces: bool
) -> tuple[list[str], list[int]]:
    """Texts and kinds by id; ids without a token are filled up."""
    tokens = [f"[PAD{i}]" for i in range(size)]
    kinds = [UNUSED] * size
    added = tokenizer.backend.get_added_tokens_decoder()
    unknown = model.get("unk_token")
    entries = [(text, i, None) for text, i in model["vocab"].items()]
    for text, i, own in entries + [(token.content, i, token) for i, token in added.items()]:
        if i >= size:
            raise FormatError(f"the tokenizer has the id {i}, and the model {size} tokens")
        kind = NORMAL if own is None else CONTROL if own.special else USER_DEFINED
        if pieces and text == unknown:
            kind = UNKNOWN
        elif pieces and own is None and _BYTE.fullmatch(text):
            kind = BYTE
        tokens[i], kinds[i] = text, kind
    return tokens, kinds


def _pre(stored: Json) -> str:
    """The name of the way in which a byte-level tokenizer cuts text."""
    model, normalizer = stored["model"], stored.get("normalizer")
    steps = _meaning(stored.get("pre_tokenizer"))
    kind = normalizer and normalizer.get("type")
    nfc = kind == "NFC"
    if kind is not None and not nfc:
        raise UnsupportedModelError(f"a normalizer {kind!r} is not written to GGUF")
    whole = bool(model.get("ignore_merges"))
    for name, known in PRE_TOKENIZERS.items():
        same = _meaning(known.json) == steps
        if same and (known.nfc, known.whole_words) == (nfc, whole):
            return name
    raise UnsupportedModelError(
        "GGUF has no name for the way in which this tokenizer cuts text; names here are of "
        f"{', '.join(PRE_TOKENIZERS)}"
    )


def _meaning(step: Json | None) -> list[Json]:
    """The steps of a pre-tokenizer, without what changes nothing that they cut."""
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [part for each in step["pretokenizers"] for part in _meaning(each)]
    known = _MEANS.get(step["type"])
    given = {k: v for k, v in step.items() if k != "type"}
    if known is not None:
        given = {key: given.get(key, value) for key, value in known.items()}
    return [{"type": step["type"], **given}]


def _sentencepiece(stored: Json, tokens: list[str]) -> Json:
    """Scores by the place of the merge that makes a token, and whether a space is put first."""
    scores = [0.0] * len(tokens)
    ids = {token: i for i, token in enumerate(tokens)}
    for place, merge in enumerate(stored["model"]["merges"]):
        made = "".join(merge.split(" ") if isinstance(merge, str) else merge)
        if made in ids and not scores[ids[made]]:
            scores[ids[made]] = -float(place + 1)
    prefix = _puts_space(stored)
    return {"pre": "default", "scores": scores, "add_space_prefix": prefix}


def _puts_space(stored: Json) -> bool:
    """Whether text begins with a space that is put there."""
    normalizer = stored.get("normalizer") or {"type": "Sequence", "normalizers": []}
    steps = normalizer.get("normalizers", [normalizer])
    prefix = any(step["type"] == "Prepend" for step in steps)
    for step in steps:
        replaces = step["type"] == "Replace" and step["pattern"] == {"String": " "}
        if step["type"] != "Prepend" and not (replaces and step["content"] == SPACE):
            raise UnsupportedModelError(f"a normalizer {step['type']!r} is not written to GGUF")
    cut = stored.get("pre_tokenizer")
    if cut is not None and cut["type"] == "Metaspace":
        return bool(cut.get("prepend_scheme", "always") != "never")
    if cut is not None and cut != {**cut, "type": "Split", "pattern": {"String": " "}}:
        raise UnsupportedModelError(f"a pre-tokenizer {cut['type']!r} is not written to GGUF")
    return prefix


def _ids(tokenizer: Tokenizer) -> Json:
    """Ids by role; where messages end otherwise than texts, that id, too."""
    find = tokenizer.backend.token_to_id
    named = {key: find(tokenizer.special.get(f"{key}_token", "")) for key in _ROLES}
    ids = {f"{_ROLES[key]}_token_id": i for key, i in named.items() if i is not None}
    if tokenizer.bos_id is not None:
        ids["bos_token_id"] = tokenizer.bos_id
    ends = list(tokenizer.eos_ids)
    if ends:
        first = ids.setdefault("eos_token_id", ends[0])
        others = [i for i in ends if i != first]
        if others:
            ids["eot_token_id"] = others[0]
    return ids


def _adds(tokenizer: Tokenizer) -> Json:
    """What is put around a text."""
    bare, whole = (tokenizer.backend.encode("a", add_special_tokens=s).ids for s in (False, True))
    before = len(whole) - len(bare) > 0 and whole[0] != bare[0]
    return {"add_bos_token": before, "add_eos_token": len(whole) - len(bare) - before > 0}


def _templates(templates: Mapping[str, str]) -> Json:
    found: Json = {}
    for name, text in templates.items():
        found["tokenizer.chat_template" + ("" if name == "default" else f".{name}")] = text
    others = [name for name in templates if name != "default"]
    return {**found, **({"tokenizer.chat_templates": others} if others else {})}
