"""A kept survey that is damaged, half claimed or wanted twice: one line, and nothing is harmed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dying
import pytest

from lrc.allocation import survey as surveying
from lrc.base.lock import LockedFile
from lrc.base.partial import MARKER
from lrc.cli.main import main

RUN = "lrc-run.json"  # has times in it
Lrc = Callable[..., Any]
QUICK = ("--preset", "fast", "--nsamples", "6", "--seqlen", "64", "--iterations", "1")
COMMON = (*QUICK, "--threads", "1", "--quiet", "--target-bpw", "3.1")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RUN)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def options(model: Path, text: Path, folder: Path, survey: Path) -> list[str]:
    made = ("compress", model, "-o", folder / "out", "--calib", text, *COMMON, "--survey", survey)
    return [str(part) for part in made]


@pytest.fixture(scope="module")
def complete(
    model: Path, text: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, bytes]]:
    """A survey, and what was made of it."""
    folder = tmp_path_factory.mktemp("survey")
    assert main(options(model, text, folder, folder / "kept")) == 0
    return folder / "kept", contents(folder / "out")


@pytest.fixture
def kept(complete: tuple[Path, dict[str, bytes]], tmp_path: Path) -> Path:
    shutil.copytree(complete[0], tmp_path / "kept")
    return tmp_path / "kept"


def lose_a_matrix(path: Path) -> None:
    value = json.loads(path.read_text())
    value.pop(next(iter(value)))
    path.write_text(json.dumps(value))


def lose_a_rank(path: Path) -> None:
    value = json.loads(path.read_text())
    curves = next(iter(value.values()))["curves"]
    next(iter(curves.values())).pop("0")
    path.write_text(json.dumps(value))


def lose_a_slope(path: Path) -> None:
    value = json.loads(path.read_text())
    value["slope"].pop(next(iter(value["slope"])))
    path.write_text(json.dumps(value))


def no_number(path: Path) -> None:
    value = json.loads(path.read_text())
    value["slope"] = dict.fromkeys(value["slope"], "much")
    path.write_text(json.dumps(value))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_list(path: Path) -> None:
    path.write_bytes(b"[]")


def bare(path: Path) -> None:
    path.write_bytes(b"{}")


LEVELS, TENSORS = "levels/levels-00000.json", "levels/levels-00001.safetensors"
DAMAGE = [
    *(
        (name, act)
        for act in (cut, empty, a_list)
        for name in ("survey.json", "sensitivities.json")
    ),
    *((LEVELS, act) for act in (cut, empty, a_list, bare, lose_a_matrix, lose_a_rank)),
    *((TENSORS, act) for act in (cut, empty)),
    *(("sensitivities.json", act) for act in (bare, lose_a_slope, no_number)),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_what_is_damaged_is_named_and_removing_it_helps(
    lrc: Lrc,
    model: Path,
    text: Path,
    complete: tuple[Path, dict[str, bytes]],
    kept: Path,
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    damage(kept / name)
    before = contents(kept)
    command = options(model, text, tmp_path, kept)
    outcome = lrc(*command)
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "this is a bug" not in outcome.err
    named = (kept / name).with_suffix(".json")
    assert f"{named} is damaged (" in outcome.err
    assert contents(kept) == before
    if name == "survey.json":
        assert f"; remove {kept}, or give another folder" in outcome.err
        shutil.rmtree(kept)
    else:
        assert "; remove it and run again" in outcome.err
        named.unlink()
    lrc(*command).check()
    assert contents(tmp_path / "out") == complete[1]
    assert contents(kept) == contents(complete[0])


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"spec": 5, "summary": {}}', b'{"spec": {"x": 1}, "summary": {}}',
     b'{"spec": {}, "summary": 5}'],
)  # fmt: skip
def test_a_damaged_answer_is_named_and_removing_it_helps(
    lrc: Lrc,
    model: Path,
    text: Path,
    complete: tuple[Path, dict[str, bytes]],
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
) -> None:
    command = options(model, text, tmp_path, kept)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["lrc.pipeline.compress"], "run_blocks", None)
        assert "keeps the 2 finished files" in lrc(*command).err  # the tokens and the answer
    answer = tmp_path / "out.partial" / "unfinished-allocation.json"
    answer.write_bytes(content)
    outcome = lrc(*command)
    assert outcome.code == 1
    assert "this is a bug" not in outcome.err
    assert f"{answer} is damaged (" in outcome.err
    assert "; remove it and run again" in outcome.err
    answer.unlink()
    lrc(*command).check()
    assert contents(tmp_path / "out") == complete[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", [1, 2, 3, 5, 8, 13, 20, 28, 37, 47])
def test_a_run_that_dies_while_it_surveys_goes_on(
    model: Path,
    text: Path,
    complete: tuple[Path, dict[str, bytes]],
    tmp_path: Path,
    step: int,
) -> None:
    command = options(model, text, tmp_path, tmp_path / "kept")
    code = dying.killed_at(step, lambda: os._exit(main(command)), tmp_path / "kept")
    assert code == dying.KILLED
    done = {path: path.stat().st_ino for path in (tmp_path / "kept").rglob("levels-*.json")}
    assert main(command) == 0
    assert {path: path.stat().st_ino for path in done} == done
    assert contents(tmp_path / "out") == complete[1]
    assert contents(tmp_path / "kept") == contents(complete[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and flock")
def test_one_process_surveys_and_a_second_is_told_so(
    lrc: Lrc,
    model: Path,
    text: Path,
    complete: tuple[Path, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    levels = surveying._matrix_candidates
    survey = tmp_path / "kept"
    (tmp_path / "other").mkdir()

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(surveying, "_matrix_candidates", levels)
        said.append(lrc(*options(model, text, tmp_path / "other", survey)).err)
        return levels(*arguments)

    monkeypatch.setattr(surveying, "_matrix_candidates", meanwhile)
    lrc(*options(model, text, tmp_path, survey)).check()
    assert f"another process is writing {survey}; wait for it or stop it" in said[0]
    assert contents(tmp_path / "out") == complete[1]
    assert contents(survey) == contents(complete[0])
    # What is complete is only read, even while somebody holds the folder.
    with LockedFile.take(survey / MARKER):
        lrc(*options(model, text, tmp_path / "other", survey)).check()
    assert contents(tmp_path / "other" / "out") == complete[1]
