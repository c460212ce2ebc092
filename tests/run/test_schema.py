"""Texts that have to follow a JSON schema parse, and are valid by it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

import lrc
import lrc.cli.main as cli
from lrc.errors import LrcError, SpecError
from lrc.run.conversation import Conversation
from lrc.run.sampler import Sampler
from lrc.run.text import Tokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "kind": {"enum": ["a", "b c"]},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99},
                  "maxItems": 3},
    },
    "required": ["name", "kind", "sizes"],
    "additionalProperties": False,
}  # fmt: skip


def assert_valid(text: str) -> None:
    """Whether a text is JSON of `SCHEMA`, by hand."""
    found = json.loads(text)
    assert list(found) == ["name", "kind", "sizes"]
    assert isinstance(found["name"], str)
    assert len(found["name"]) <= 5
    assert found["kind"] in ("a", "b c")
    assert len(found["sizes"]) <= 3
    assert all(type(n) is int and 0 <= n <= 99 for n in found["sizes"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("schema") / "model")


@pytest.fixture(scope="module")
def loaded(folder: Path):
    return lrc.load(folder)


@pytest.fixture
def _package() -> None:
    pytest.importorskip("llguidance", reason="needs the extra schema")


@pytest.mark.usefixtures("_package")
@pytest.mark.parametrize("lookup", [0, 8])
@pytest.mark.parametrize("sampler", [Sampler(), Sampler(1.0), Sampler(2.0, top_k=50, seed=3)])
def test_a_text_parses_and_is_valid(loaded, sampler, lookup) -> None:
    made = loaded.generate("{", 200, sampler, schema=SCHEMA, lookup=lookup)
    assert_valid("".join(made))


@pytest.mark.usefixtures("_package")
def test_every_answer_of_a_conversation_is_valid(loaded) -> None:
    talk = Conversation(loaded, Sampler(1.0), schema=json.dumps(SCHEMA))
    for question in ("One?", "Two?"):
        assert_valid("".join(talk.answer(question)))


@pytest.mark.usefixtures("_package")
def test_ids_beyond_the_tokenizer_are_out_of_question(loaded) -> None:
    from lrc.run.schema import JsonGrammars

    constraint = JsonGrammars(loaded.tokenizer, 300).grammar(SCHEMA).begin()
    allowed = constraint.allowed()
    assert allowed.shape == (300,)
    assert loaded.tokenizer.decode(np.flatnonzero(allowed)) == "{"
    assert not constraint.is_whole


@pytest.mark.usefixtures("_package")
@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("[]", "holds a list"),
        ("{", "not valid JSON"),
        ({"type": "nonsense"}, "Invalid type: nonsense"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"const": float("nan")}, "no JSON"),
        ({"minimum": {1, 2}}, "no JSON"),
    ],
)
def test_schemas_that_cannot_be_followed_are_refused_at_once(loaded, schema, said) -> None:
    with pytest.raises(SpecError, match=said):
        loaded.generate("a", 9, schema=schema)


def test_a_model_without_an_end_is_refused(loaded) -> None:
    pytest.importorskip("llguidance", reason="needs the extra schema")
    from lrc.run.schema import JsonGrammars

    with pytest.raises(SpecError, match="a token that ends texts"):
        JsonGrammars(Tokenizer(loaded.tokenizer.backend), 258)


def test_without_the_package_one_line_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "llguidance", None)
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    with pytest.raises(LrcError, match="llguidance"):
        lrc.load(folder).generate("a", 9, schema=SCHEMA)
    assert cli.main(["generate", str(folder), "-p", "a", "--json-schema", str(path)]) == 1
    err = capsys.readouterr().err
    assert "lrc-llm[schema]" in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("_package")
def test_the_command_makes_json_and_says_where_it_is_cut(folder: Path, tmp_path: Path, capsys):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    given = ["generate", str(folder), "-p", "abc", "--json-schema", str(path), "--max-tokens"]
    assert cli.main([*given, "200"]) == 0
    out, err = capsys.readouterr()
    assert_valid(out)
    assert "not whole" not in err
    assert cli.main([*given, "5"]) == 0
    assert "not whole after 5 tokens" in capsys.readouterr().err
    assert cli.main(["generate", str(folder), "-p", "a", "--json-schema", "nowhere"]) == 1
    assert "cannot read the JSON schema nowhere" in capsys.readouterr().err
