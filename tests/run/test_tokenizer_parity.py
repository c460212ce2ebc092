"""Ids and chats against golden files of Hugging Face transformers, in many states of the files."""

import json
from pathlib import Path

import pytest

from lrc.errors import FormatError, SpecError
from lrc.run.text import Tokenizer

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "tokenizers"
TOKENS = json.loads((GOLDEN / "tokens.json").read_text("utf-8"))
TEMPLATES = json.loads((GOLDEN / "templates.json").read_text("utf-8"))


def of(golden):
    return pytest.mark.parametrize("case", golden["cases"], ids=lambda case: case["name"])


def write(folder, case):
    """The directory of a case."""
    tokenizer = TOKENS["bases"][case["base"]] | case["tokenizer"]
    for name, content in {"tokenizer.json": tokenizer, **case["files"]}.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    return folder


@of(TOKENS)
def test_ids_are_those_of_transformers(tmp_path, case):
    folder = write(tmp_path, case)
    if case.get("refused"):
        with pytest.raises(FormatError, match=r"gives the token '.+' the id \d+"):
            Tokenizer.open(folder)
        return
    made = Tokenizer.open(folder)
    bare = [made.encode(text).tolist() for text in TOKENS["texts"]]
    full = [made.encode(text, add_special=True).tolist() for text in TOKENS["texts"]]
    assert bare == case["ids"]
    assert [len(f) - len(b) for f, b in zip(full, bare, strict=True)] == case["added"]
    assert [f[:1] for f in full] == case["first"]
    assert [made.decode(ids) for ids in bare] == case["decoded"]
    assert made.special == case["roles"]
    assert made.bos_id == case["starts"]
    assert made.eos_ids == (() if case["ends"] is None else (case["ends"],))


@of(TEMPLATES)
def test_chats_are_those_of_transformers(tmp_path, case):
    made = Tokenizer.open(write(tmp_path, case))
    if case.get("refused"):
        with pytest.raises(SpecError) as refusal:
            made.render_chat(case["messages"], **case["options"])
        assert len(str(refusal.value).splitlines()) == 1
        return
    assert made.render_chat(case["messages"], **case["options"]) == case["text"]
    assert made.apply_chat(case["messages"], **case["options"]).tolist() == case["ids"]
