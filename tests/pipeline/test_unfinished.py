"""A compression that fails keeps what it has finished, and the same command goes on from there."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dying
import pytest

from lrc.base.partial import MARKER
from lrc.cli.main import main
from lrc.pipeline import blocks, site

Lrc = Callable[..., Any]
Contents = dict[str, bytes]


def contents(folder: Path) -> Contents:
    files = (path for path in folder.iterdir() if path.name != "lrc-run.json")  # it has times
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture
def command(model: Path, text: Path, fast: tuple[str, ...], tmp_path: Path) -> tuple[object, ...]:
    return ("compress", model, "-o", tmp_path / "out", "--calib", text, *fast)


@pytest.fixture(scope="session")
def left(
    model: Path, text: Path, fast: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What a run leaves that fails at the second block."""
    folder = tmp_path_factory.mktemp("left")
    with pytest.MonkeyPatch.context() as patch:
        fail_after(8, MemoryError(), patch)
        options = ["compress", str(model), "-o", str(folder / "out"), "--calib", str(text), *fast]
        assert main(options) == 1
    return folder / "out.partial"


@pytest.fixture
def partial(left: Path, tmp_path: Path) -> Path:
    shutil.copytree(left, tmp_path / "out.partial")
    return tmp_path / "out.partial"


def fail_after(matrices: int, error: BaseException, patch: pytest.MonkeyPatch) -> list[str]:
    """Let the solver raise after some matrices; the names of those that it was given."""
    solve = site.decompose_at_site
    given: list[str] = []

    def failing(*arguments: Any, name: str, **options: Any) -> Any:
        if len(given) == matrices:
            raise error
        given.append(name)
        return solve(*arguments, name=name, **options)

    patch.setattr(site, "decompose_at_site", failing)
    return given


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (OSError(28, "No space left on device"), "free some space"),
        (RuntimeError("oops"), "this is a bug"),
    ],
)
def test_whatever_fails_the_same_command_goes_on(
    lrc: Lrc,
    packed: Path,
    command: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    said: str,
) -> None:
    partial = tmp_path / "out.partial"
    with monkeypatch.context() as patch:
        fail_after(8, error, patch)
        outcome = lrc(*command)
    assert outcome.code == 1
    assert outcome.err.startswith("lrc: error: ")
    assert outcome.err.count("\n") == 1
    assert said in outcome.err
    # Calibration tokens, embedding and the first block.
    assert f"{partial} keeps the 3 finished files; the same command goes on" in outcome.err
    with monkeypatch.context() as patch:
        given = fail_after(99, error, patch)
        lrc(*command).check()
    assert len(given) == 7
    assert all(name.startswith("model.layers.1.") for name in given)
    assert contents(tmp_path / "out") == contents(packed)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_embedding_is_read_rather_than_quantized_again(
    lrc: Lrc,
    packed: Path,
    partial: Path,
    command: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lrc.quant.tables.quantize_table", None)
    lrc(*command).check()
    assert contents(tmp_path / "out") == contents(packed)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"files": 5}', b'{"files": [5]}', b'{"files": ["../x"]}', b'{"x": 1}',
     b'{"records": {"a": 1}}', b'{"dropped": {"a": "b"}}', b'{"seconds": ["a"]}', b"\xff"],
)  # fmt: skip
def test_damaged_journal_is_refused_and_left_alone(
    lrc: Lrc, partial: Path, command: tuple[object, ...], content: bytes
) -> None:
    (partial / "unfinished.json").write_bytes(content)
    before = contents(partial)
    outcome = lrc(*command)
    assert outcome.code == 1
    assert "this is a bug" not in outcome.err
    assert "unfinished.json is damaged (" in outcome.err
    assert f"; remove {partial} and run again" in outcome.err
    assert contents(partial) == before


@pytest.mark.parametrize(
    "name", ["unfinished-windows.npy", "shell.safetensors", "block-00000.safetensors"]
)
@pytest.mark.parametrize("left_of_it", [0.0, 0.5, None])
def test_damaged_or_lost_file_is_made_again(
    lrc: Lrc,
    packed: Path,
    partial: Path,
    command: tuple[object, ...],
    tmp_path: Path,
    name: str,
    left_of_it: float | None,
) -> None:
    path = partial / name
    if left_of_it is not None:
        path.write_bytes(path.read_bytes()[: int(left_of_it * path.stat().st_size)])
        outcome = lrc(*command)
        assert outcome.code == 1
        assert "this is a bug" not in outcome.err
        assert f"{path} is damaged (" in outcome.err
        assert "; remove it and run again" in outcome.err
    path.unlink()
    lrc(*command).check()
    assert contents(tmp_path / "out") == contents(packed)


def test_a_block_that_was_lost_is_made_again_in_its_place(
    lrc: Lrc,
    packed: Path,
    command: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            sys.modules["lrc.pipeline.compress"], "sync_tree", None
        )  # the step after the last block
        assert "keeps the 4 finished files" in lrc(*command).err
    (tmp_path / "out.partial" / "block-00000.safetensors").unlink()
    given = fail_after(99, MemoryError(), monkeypatch)
    lrc(*command).check()
    assert len(given) == 7
    assert contents(tmp_path / "out") == contents(packed)


def test_tensors_and_records_that_do_not_fit_are_refused(
    lrc: Lrc, partial: Path, command: tuple[object, ...]
) -> None:
    state = json.loads((partial / "unfinished.json").read_text())
    del state["records"]["model.layers.0.mlp.up_proj.weight"]
    (partial / "unfinished.json").write_text(json.dumps(state))
    outcome = lrc(*command)
    assert outcome.code == 1
    assert "block-00000.safetensors is damaged" in outcome.err


def test_other_code_does_not_go_on(
    lrc: Lrc, partial: Path, command: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["lrc.pipeline.compress"], "code_digest", lambda: "other")
    given = fail_after(99, MemoryError(), monkeypatch)
    outcome = lrc(*(part for part in command if part != "--quiet"))
    assert outcome.code == 0
    assert "another version of lrc: it is replaced" in outcome.err
    assert len(given) == 14


def test_tokens_that_were_not_finite_are_counted_once(
    lrc: Lrc, command: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems_of = blocks.site_problems

    def with_dropped(*arguments: Any) -> Any:
        for problem in problems_of(*arguments):
            yield dataclasses.replace(problem, dropped=problem.dropped + 3)

    monkeypatch.setattr(blocks, "site_problems", with_dropped)
    with monkeypatch.context() as patch:
        fail_after(8, MemoryError(), patch)
        assert lrc(*command).code == 1
    lrc(*command).check()
    written = json.loads((tmp_path / "out" / "lrc.json").read_text())
    assert written["calibration"]["dropped_rows"] == 3 * 4 * 2  # at four sites in two blocks
    assert "24 activations were not finite and left out" in written["warnings"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("first", range(3))
def test_a_run_that_dies_at_any_step_goes_on_to_the_same_bytes(
    packed: Path, command: tuple[object, ...], tmp_path: Path, first: int
) -> None:
    out, kept = tmp_path / "out", tmp_path / "out.partial"
    step, code = 5 + 3 * first, dying.KILLED
    while code == dying.KILLED:
        # Each run goes on from what the last one left, and dies as late after its start.
        done = {p.name: p.stat().st_ino for p in kept.glob("*.safetensors")}
        journal = kept / "unfinished.json"
        named = json.loads(journal.read_text())["files"] if journal.exists() else []
        code = dying.killed_at(
            step, lambda: os._exit(main([str(part) for part in command])), tmp_path
        )
        assert code in (0, dying.KILLED)
        where = out if out.exists() else kept
        for name in named:
            assert (where / name).stat().st_ino == done[name], (step, name)
        step += 7
    found = contents(out)
    found.pop(MARKER, None)
    assert found == contents(packed)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
