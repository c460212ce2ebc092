"""Whatever is wrong, the command says one clear line, fails, and leaves what is finished alone."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from lrc.models import opened

Lrc = Callable[..., Any]


def break_config(path: Path, **changes: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


def pickle_only(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def corrupt_header(path: Path) -> None:
    content = bytearray((path / "model.safetensors").read_bytes())
    content[8:40] = b"x" * 32
    (path / "model.safetensors").write_bytes(content)


def truncated(path: Path) -> None:
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])


def empty_weights(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def with_nan(path: Path) -> None:
    values = load_file(path / "model.safetensors")
    weight = values["model.layers.1.self_attn.q_proj.weight"].copy()
    weight[3, 5] = np.nan
    values["model.layers.1.self_attn.q_proj.weight"] = weight
    save_file(values, path / "model.safetensors")


def lost_tensor(path: Path) -> None:
    values = load_file(path / "model.safetensors")
    del values["model.layers.1.mlp.up_proj.weight"]
    save_file(values, path / "model.safetensors")


def wrong_shape(path: Path) -> None:
    values = load_file(path / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    values[name] = np.ascontiguousarray(values[name][:-8])
    save_file(values, path / "model.safetensors")


MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "not a llama": (lambda p: break_config(p, model_type="elsewhere"), "elsewhere"),
    "unknown activation": (lambda p: break_config(p, hidden_act="mish"), "mish"),
    "unknown rope": (
        lambda p: break_config(p, rope_scaling={"rope_type": "spiral", "factor": 4.0}),
        "spiral",
    ),
    "impossible heads": (lambda p: break_config(p, num_key_value_heads=3), "heads"),
    "config is not json": (lambda p: (p / "config.json").write_text("{") and None, "config.json"),
    "no config": (lambda p: (p / "config.json").unlink(), "config.json"),
    "no tokenizer": (lambda p: (p / "tokenizer.json").unlink(), "tokenizer.json"),
    "pickle only": (pickle_only, "pickle"),
    "corrupt header": (corrupt_header, "model.safetensors"),
    "truncated": (truncated, "model.safetensors"),
    "empty weights": (empty_weights, "model.safetensors"),
    "nan weights": (with_nan, "model.layers.1.self_attn.q_proj.weight"),
    "lost tensor": (lost_tensor, "model.layers.1.mlp.up_proj.weight"),
    "wrong shape": (wrong_shape, "up_proj"),
}


def check_refused(outcome: Any, said: str, code: int = 1) -> None:
    assert outcome.code == code
    err = re.sub(r"\Aplan: .*\n", "", outcome.err)  # where work had begun
    assert err.startswith("lrc: error: "), err
    assert err.count("\n") == 1, err
    assert "unexpected" not in err, err
    assert said in err, err


def check_left(folder: Path, before: list[Path], said: str) -> None:
    """Nothing is left but finished work, and that only if the command says so."""
    left = sorted(set(folder.iterdir()) - set(before))
    partial = folder / "out.partial"
    assert left == ([partial] if f"{partial} keeps the " in said else [])
    assert not left or list(partial.glob("unfinished*"))


@pytest.mark.parametrize("name", MODELS)
def test_bad_model_is_refused(
    lrc: Lrc, text: Path, fast: tuple[str, ...], tmp_path: Path, name: str
) -> None:
    damage, said = MODELS[name]
    source = tiny.write_model(tmp_path / "model")
    damage(source)
    before = sorted(tmp_path.iterdir())
    outcome = lrc("compress", source, "-o", tmp_path / "out", "--calib", text, *fast)
    check_refused(outcome, said)
    check_left(tmp_path, before, outcome.err)


@pytest.mark.parametrize("verb", ["compress", "eval", "generate", "inspect", "export"])
@pytest.mark.parametrize("what", ["missing", "file", "empty folder"])
def test_wrong_path_is_refused(lrc: Lrc, tmp_path: Path, verb: str, what: str) -> None:
    source = tmp_path / "source"
    if what == "file":
        source.write_text("hello")
    elif what == "empty folder":
        source.mkdir()
    before = sorted(tmp_path.iterdir())
    options: dict[str, tuple[object, ...]] = {
        "compress": ("-o", tmp_path / "out"),
        "generate": ("-p", "x"),
        "export": ("-o", tmp_path / "out"),
    }
    check_refused(lrc(verb, source, "--quiet", *options.get(verb, ())), "source")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("content", ["", " \n\n", "too short"])
def test_calibration_text_without_a_window_is_refused(
    lrc: Lrc, model: Path, fast: tuple[str, ...], tmp_path: Path, content: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(content)
    outcome = lrc("compress", model, "-o", tmp_path / "out", "--calib", text, *fast)
    check_refused(outcome, "text")
    assert sorted(tmp_path.iterdir()) == [text]


def test_missing_and_broken_calibration_files_are_refused(
    lrc: Lrc, model: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    for name, content in (
        ("missing.txt", None),
        ("b.jsonl", b"{oops\n"),
        ("c.txt", b"\xff\xfe\x00"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        outcome = lrc("compress", model, "-o", tmp_path / "out", "--calib", path, *fast)
        check_refused(outcome, name)
        assert not (tmp_path / "out").exists()


def test_existing_output_is_refused_and_kept(
    lrc: Lrc, model: Path, packed: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("keep")
    check_refused(lrc("compress", model, "-o", out, *fast), "exists")
    check_refused(lrc("export", packed, "-o", out, "--quiet"), "exists")
    assert [file.name for file in out.iterdir()] == ["precious"]


def test_output_that_cannot_be_made_is_refused_before_any_work(
    lrc: Lrc, model: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", tmp_path / "nowhere" / "out"):
        check_refused(lrc("compress", model, "-o", out, *fast), "cannot write")
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o555)
        check_refused(lrc("compress", model, "-o", locked / "out", *fast), "cannot write")


def test_disk_that_fills_up_while_syncing(
    lrc: Lrc,
    model: Path,
    text: Path,
    fast: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    outcome = lrc("compress", model, "-o", tmp_path / "out", "--calib", text, *fast)
    check_refused(outcome, "No space left on device")
    check_left(tmp_path, [], outcome.err)


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_file_that_cannot_grow(
    model: Path, packed: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    # A file size limit makes real writes fail in the middle, whoever makes them.
    script = (
        "import resource, sys; from lrc.cli.main import main; import numba; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); sys.exit(main(sys.argv[1:]))"
    )
    for verb in (
        ("compress", model, "-o", tmp_path / "out", "--calib", text, *fast),
        ("export", packed, "-o", tmp_path / "out", "--quiet"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, verb)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "NUMBA_DISABLE_JIT": "0"},
        )
        assert done.returncode == 1, done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("lrc: error: ")]
        assert len(lines) == 1, done.stderr
        assert "unexpected" not in done.stderr
        check_left(tmp_path, [], lines[0])


def test_out_of_memory_is_one_line(lrc: Lrc, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(opened, "open_model_files", exhausted)
    check_refused(lrc("inspect", model), "out of memory")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--bits", "9"), "bits"),
        (("--codebook", "e8p", "--bits", "3"), "e8p"),
        (("--group-size", "64"), "group_size"),
        (("--mix", "1.5"), "mix"),
        (("--nsamples", "0"), "nsamples"),
        (("--embed-bits", "2"), "embed_bits"),
        (("--threads", "0"), "threads"),
        (("--damping", "nan"), "damping"),
    ],
)
def test_bad_parameters_are_refused_by_name(
    lrc: Lrc,
    model: Path,
    fast: tuple[str, ...],
    tmp_path: Path,
    options: tuple[str, ...],
    said: str,
) -> None:
    check_refused(lrc("compress", model, "-o", tmp_path / "out", *fast, *options), said)
    assert not list(tmp_path.iterdir())


def test_evaluation_text_shorter_than_a_window(lrc: Lrc, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("short")
    check_refused(lrc("eval", model, "--text", text, "--quiet"), "text")


def test_import_of_a_file_that_is_no_gguf(lrc: Lrc, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"not a gguf file at all")
    check_refused(lrc("import-gguf", file, "-o", tmp_path / "out", "--quiet"), "model.gguf")
    assert sorted(tmp_path.iterdir()) == [file]
