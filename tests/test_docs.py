"""What the documents name exists: files, modules, and the names of the code."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ["README.md", "CONTRIBUTING.md", "tests/README.md", "bench/README.md",
        *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]  # fmt: skip
every_document = pytest.mark.parametrize("name", DOCS)

PATH = re.compile(r"(?<![\w/.-])(?:lrc|kernels|tests|bench|examples|docs|\.ci)/[\w./*-]*[\w/*]")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[\w-]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*(?:\(\))?")
SCRIPT = re.compile(r"[\w-]+\.(?:py|toml|json|sh)")


def missing_paths(text: str) -> list[str]:
    """Paths of the repository that a text names, and that are not there; NAME is any name."""
    found = PATH.findall(text)
    return [path for path in found if not list(ROOT.glob(path.rstrip("/").replace("NAME", "*")))]


def spans(text: str) -> list[str]:
    """Code in a line of prose."""
    return SPAN.findall(FENCE.sub("", text))


@cache
def known_words() -> frozenset[str]:
    """Every word of the code, of its configuration and of the paths."""
    files = [*ROOT.glob("*.toml"), ROOT / ".ci" / "run"]
    for folder in ("lrc", "kernels", "tests", "bench", "examples"):
        files += (ROOT / folder).rglob("*.py")
    texts = [file.read_text(encoding="utf-8") for file in files if file.name != "test_docs.py"]
    return frozenset(re.findall(r"\w+", "\n".join([*texts, *map(str, files)])))


def unknown_names(text: str) -> list[str]:
    """Names in code spans of which some part occurs nowhere in the code."""
    return [
        name
        for name in spans(text)
        if NAME.fullmatch(name) and not set(re.findall(r"\w+", name)) <= known_words()
    ]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@every_document
def test_paths_exist(name):
    assert missing_paths(read(name)) == []


@every_document
def test_links_lead_somewhere(name):
    linked = [link for link in LINK.findall(read(name)) if not link.startswith("//")]
    assert [link for link in linked if not ((ROOT / name).parent / link).exists()] == []


@every_document
def test_names_are_those_of_the_code(name):
    assert unknown_names(read(name)) == []


def test_rooms_are_those_of_the_import_contract_from_the_top():
    config = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = [c["layers"] for c in config if c["type"] == "layers"]
    rooms = [room.strip() for layer in layers for room in layer.split(":")]
    described = re.findall(r"^\| `lrc/(\w+)/` \|", read("docs/architecture.md"), re.MULTILINE)
    assert described == [room for room in rooms if room not in ("__main__", "errors")]


@pytest.mark.parametrize("name", ["tests/README.md", "bench/README.md"])
def test_files_named_in_a_folder_lie_there(name):
    folder = (ROOT / name).parent
    named = [span for span in spans(read(name)) if SCRIPT.fullmatch(span)]
    assert named
    assert [span for span in named if not list(folder.rglob(span))] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see `lrc/nowhere/`.", ["lrc/nowhere/"]),
        ("python bench/none.py MODEL", ["bench/none.py"]),
        ("`lrc/spec/presets.py`, lrc/cli/ and `tests/data/golden/*`", []),
        ("`kernels/lrc_kernels/*.nothing`", ["kernels/lrc_kernels/*.nothing"]),
    ],
)
def test_a_path_that_is_not_there_is_found(text, found):
    assert missing_paths(text) == found


def test_a_name_that_is_not_there_is_found():
    gone = "QUANTI" + "ZERZ"
    assert unknown_names(f"a row in `CODEBOOKS`, `{gone}` and `lrc.spec.{gone}`") == [
        gone,
        f"lrc.spec.{gone}",
    ]
