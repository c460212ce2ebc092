"""What the pages of docs/ show is run: Python, and commands of lrc, on a tiny model and few texts.

Blocks marked ``python`` and ``sh`` are run in their order; of those marked ``bash`` (other
programs, real models, minutes) the lines of ``lrc`` are parsed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import tiny

from lrc.cli.main import build_parser, main

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: Pages that describe, and run nothing.
TOLD = ("architecture", "index", "serving")
PAGES = sorted(p.stem for p in DOCS.glob("*.md") if p.stem not in TOLD)
FEW = {
    "compress": ["--nsamples", "2", "--seqlen", "32", "--threads", "1", "--quiet"],
    "imatrix": ["--nsamples", "2", "--seqlen", "32", "--threads", "1", "--quiet"],
    "repair": ["--nsamples", "2", "--seqlen", "32", "--threads", "1", "--quiet"],
    "eval": ["--windows", "2", "--ctx", "64", "--threads", "1"],
}


def commands(block: str) -> list[list[str]]:
    """The commands of a block, which may go on after a backslash, without the name lrc."""
    lines = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    return [line[1:] for line in lines if line[:1] == ["lrc"]]


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))


def run(page: str) -> int:
    """Run a page in the present folder; how many things were done."""
    names: dict = {"__name__": page}
    done = 0
    for language, block in blocks(page):
        if language == "python":
            exec(compile(block, f"{page}.md", "exec"), names)
            done += 1
        for command in commands(block):
            build_parser().parse_args(command)
            if language == "sh":
                assert main(command + FEW.get(command[0], [])) == 0, command
                done += 1
        if language == "sh":
            assert len(commands(block)) == len(block.replace("\\\n", " ").splitlines())
    return done


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the names that pages use."""
    widths = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}  # whole blocks of 32
    tiny.write_model(tmp_path / "MODEL", **widths, num_hidden_layers=1)
    tiny.add_merge(tmp_path / "MODEL")
    for name in ("text.txt", "held-out.txt"):
        tiny.write_text(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_works(page, folder, capsys):
    assert run(page) > 0


def test_a_command_that_is_no_more_is_found(folder, capsys):
    (call,) = commands("lrc compress MODEL \\\n  --no-such-option # a remark\n")
    with pytest.raises(SystemExit):
        build_parser().parse_args(call)
