"""What a codebook is called is known to its files, the table, presets, recipes and the reader."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lrc.codebooks import CODEBOOKS

LRC = Path(__file__).parents[2] / "lrc"
#: Where names may stand.
AT_HOME = ("codebooks/", "quant/", "recipes/", "spec/presets.py")
#: What names begin with: "e8p", "trellis", "uniform", "lloyd", ...
STEMS = sorted({name.split("-")[0].rstrip("0123456789") for name in CODEBOOKS})


def is_file(text: str) -> bool:
    """Whether a text names a published file, which has the name that it has."""
    return text.endswith(".gguf") and " " not in text


def words(tree: ast.AST) -> list[tuple[int, str]]:
    """Identifiers, modules and string literals of a file with their lines; prose left out."""
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = []
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose and not is_file(text):
                found.append((line, text))
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.append((line, name))
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found.append((line, name))
            case ast.keyword(arg=str(name)):
                found.append((line, name))
            case ast.alias(name=name, asname=other):
                found += [(line, name), (line, other or "")]
            case ast.ImportFrom(module=str(name)):
                found.append((line, name))
    return found


def named(source: str) -> list[str]:
    """Lines of a program that name a codebook outside its prose."""
    return [
        f"{line}: {word!r}"
        for line, word in words(ast.parse(source))
        if any(stem in word.lower() for stem in STEMS)
    ]


def test_no_codebook_is_named_outside_its_home():
    found = [
        f"{path.relative_to(LRC.parent)}:{line}"
        for path in sorted(LRC.rglob("*.py"))
        if not path.relative_to(LRC).as_posix().startswith(AT_HOME)
        for line in named(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize(
    "line",
    ["x = '{}-2'", "_{}_TURNS = 1", "from a.{}_tables import b", "import a.{}", "f({}=1)",
     "def f({}): ...", "class My{}: ...", "x.{}_rows()", "from a import {}"],
)  # fmt: skip
def test_a_name_is_found_wherever_it_stands(stem, line):
    assert named(line.format(stem))
    assert named(line.format(stem.upper()))


@pytest.mark.parametrize("text", ['"""{} in prose."""', 'def f():\n    """{}."""', "# {}\nx = 1"])
def test_prose_may_speak_of_them(text):
    assert [named(text.format(stem)) for stem in STEMS] == [[]] * len(STEMS)
