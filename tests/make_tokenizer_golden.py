"""Write the golden ids and chats of `tests/models/test_tokenizer_parity.py` with transformers.

Needs the extra ``parity``, of which this uses neither torch nor any model. Run from the
repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_tokenizer_golden.py

`tokens.json` holds the tokenizers, and for each state of their files the ids of every text;
`templates.json` the text and the ids of conversations. What transformers refuses, and ids that
differ from those that the files state, are recorded as refused.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from template_cases import CASES
from tokenizer_cases import BASES, TEXTS, token_cases
from transformers import PreTrainedTokenizerFast

FOLDER = Path(__file__).parent / "data" / "golden" / "tokenizers"


def opened(case: dict[str, Any], bases: dict[str, Any], folder: Path) -> PreTrainedTokenizerFast:
    """Write a case as a directory and read it with transformers."""
    files = {"tokenizer.json": bases[case["base"]] | case["tokenizer"], **case["files"]}
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        file.write_bytes(text.encode())
    return PreTrainedTokenizerFast.from_pretrained(folder)


def stated_ids(case: dict[str, Any], bases: dict[str, Any]) -> dict[str, int]:
    """Ids that the files of a case state for added tokens, where transformers reads them."""
    read = (bases[case["base"]] | case["tokenizer"])["added_tokens"]
    stated = {t["content"]: t["id"] for t in read}
    decoder = case["files"].get("tokenizer_config.json", {}).get("added_tokens_decoder")
    if decoder is None:
        return case["files"].get("added_tokens.json", {}) | stated
    return stated | {t["content"]: int(i) for i, t in decoder.items()}


def token_answer(case: dict[str, Any], bases: dict[str, Any]) -> dict[str, Any]:
    """Ids, the text they give and the roles; or that the ids disagree."""
    with tempfile.TemporaryDirectory() as folder:
        made = opened(case, bases, Path(folder))
    for text, index in stated_ids(case, bases).items():
        if made.convert_tokens_to_ids(text) != index:
            return {"refused": True}
    bare = [made.encode(text, add_special_tokens=False) for text in TEXTS]
    full = [made.encode(text) for text in TEXTS]
    return {
        "ids": bare,
        "added": [len(f) - len(b) for f, b in zip(full, bare, strict=True)],
        "first": [f[:1] for f in full],
        "decoded": [made.decode(ids, skip_special_tokens=True) for ids in bare],
        "roles": made.special_tokens_map,
        "starts": made.bos_token_id,
        "ends": made.eos_token_id,
    }


def chat_answer(case: dict[str, Any], bases: dict[str, Any]) -> dict[str, Any]:
    """Text and ids of a conversation, or that it is refused."""
    options = dict(case["options"])
    variables = options.pop("variables", {})
    with tempfile.TemporaryDirectory() as folder:
        made = opened(case, bases, Path(folder))
        try:
            text = made.apply_chat_template(
                case["messages"], tokenize=False, **options, **variables
            )
        except Exception:  # whatever it is, the conversation is refused
            return {"refused": True}
    return {"text": text, "ids": made.encode(text, add_special_tokens=False)}


def write(name: str, value: dict[str, Any]) -> None:
    """Write compact JSON, a case a line."""
    lines = [json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in value["cases"]]
    rest = json.dumps(
        {k: v for k, v in value.items() if k != "cases"}, ensure_ascii=False, separators=(",", ":")
    )
    body = rest[:-1] + ("," if len(rest) > 2 else "") + '"cases":[\n' + ",\n".join(lines) + "]}\n"
    (FOLDER / name).write_text(body, encoding="utf-8")


def main() -> None:
    """Write both files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    bases = {name: json.loads(make().to_str()) for name, make in BASES.items()}
    tokens = [case | token_answer(case, bases) for case in token_cases(bases)]
    chats = [case | chat_answer(case, bases) for case in CASES]
    write("tokens.json", {"bases": bases, "texts": TEXTS, "cases": tokens})
    write("templates.json", {"cases": chats})


if __name__ == "__main__":
    main()
