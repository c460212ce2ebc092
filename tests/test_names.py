"""Identifiers of the packages are words of the field, not of this house alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Words of this house, and what they are called.
PRIVATE = {
    "turn": "hadamard_vector, round",
    "turned": "rotated, transposed",
    "turns": "rounds",
    "panel": "column_panel, weight_panel",
    "panels": "column_panels, weight_panels",
    "level": "candidate; of a codebook it is the field's word",
    "levels": "candidates; of a codebook it is the field's word",
    "share": "rows_of_thread, ratio, ridge",
    "room": "buffers, scratch",
    "rooms": "buffers, scratch",
    "behind": "residual_gap",
    "held": "what it is",
    "meet": "barrier",
    "meeting": "barrier",
    "meetings": "barriers",
    "pace": "thread_choice",
    "foresee": "predicted",
    "foreseen": "predicted",
    "study": "job",
    "shell": "tables",
    "fitted": "target, regression_target, for_rows",
    "crew": "team",
}
#: Whole identifiers whose parts are common words.
WHOLE = {"KeptSurvey": "SurveyStore", "kept_on_disk": "is_cached"}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def is_allowed(path: str, words: list[str], i: int) -> bool:
    """Whether word i of an identifier has another sense there."""
    if words[i] in {"panel", "panels"}:  # it says of what
        return i > 0 and words[i - 1] in {"column", "weight"}
    if words[i] in {"level", "levels"}:  # of a scalar codebook, a tokenizer, a confidence interval
        return not path.startswith(("lrc/allocation/", "lrc/pipeline/", "lrc/solvers/"))
    if words[i] == "share":  # NumPy's `may_share_memory`
        return words[i + 1 : i + 2] == ["memory"]
    return words[i] == "held" and words[i + 1 : i + 2] == ["out"]  # held-out text


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name, argument, attribute, definition and imported module, with its line."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for field in ("id", "arg", "attr", "name", "asname", "module"):
            found = getattr(node, field, None)
            if isinstance(found, str):
                yield from ((line, part) for part in found.split("."))


def private_words(path: str, source: str) -> list[str]:
    """Private words among the identifiers of a file, and in its name."""
    names = [(0, Path(path).stem), *identifiers(ast.parse(source))]
    found = set()
    for line, name in names:
        words = [word.lower() for word in WORD.findall(name)]
        instead = [
            PRIVATE[word]
            for i, word in enumerate(words)
            if word in PRIVATE and not is_allowed(path, words, i)
        ]
        instead += [WHOLE[name]] if name in WHOLE else []
        found |= {f"{path}:{line}: {name} (rather: {other})" for other in instead}
    return sorted(found)


@cache
def sources() -> dict[str, str]:
    paths = [path for room in ("lrc", "kernels") for path in sorted((ROOT / room).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


def test_names_are_those_of_the_field() -> None:
    assert len(sources()) > 100
    assert not [line for path, source in sources().items() for line in private_words(path, source)]


@pytest.mark.parametrize(
    "source",
    [
        "turned = 1",
        "def f(behind): ...",
        "x.rooms",
        "class Study: ...",
        "f(share=1)",
        "BUFFER_PANEL = 1",
        "import lrc.fitted as b",
        "from x import MEETINGS",
        "class KeptSurvey: ...",
        "lambda levelOf, error_share: 0",
        "import a as foreseen_b",
    ],
)
def test_a_private_word_is_found(source: str) -> None:
    assert private_words("lrc/allocation/any.py", source)


def test_a_private_file_name_is_found() -> None:
    assert private_words("lrc/nn/engine/pace.py", "")


@pytest.mark.parametrize(
    "source",
    [
        "np.may_share_memory(a, b)",
        "weight_panel = COLUMN_PANEL",
        "held_out = returned = mushroom",
        "'turned'  # rooms",
    ],
)
def test_words_of_another_sense_are_not(source: str) -> None:
    assert not private_words("lrc/allocation/any.py", source)


def test_levels_of_a_codebook_are_not() -> None:
    assert not private_words("lrc/codebooks/scalar.py", "levels = nearest_level(x)")
