"""`--portable`: the same bytes whatever kernels the environment would have had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lrc
from lrc.base.arithmetic import is_portable, portable_environment, processor
from lrc.errors import SpecError
from lrc.parts.fields import RUN

Lrc = Callable[..., Any]
pytestmark = pytest.mark.skipif(processor() != "x86_64", reason="cores are named for x86-64")
#: Two sets of kernels that any x86-64 processor runs.
OLD = {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"}


def command(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    wanted = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-m", "lrc", *map(str, arguments)],
        env=wanted, capture_output=True, text=True, check=False,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the one that says how long the run took."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != RUN}


def test_kernels_of_other_processors_do_not_change_a_byte(
    model: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    """And the manifest leads `lrc reproduce` to the same environment."""
    options = ("--calib", text, *fast, "--portable")
    one, two = tmp_path / "one", tmp_path / "two"
    for out, environment in ((one, {}), (two, OLD)):
        done = command(environment, "compress", model, "-o", out, *options)
        assert done.returncode == 0, done.stderr
        assert "portable: the same command gives the same bytes" in done.stdout
    assert contents(one) == contents(two)
    manifest = json.loads((one / "lrc.json").read_text())
    assert manifest["spec"]["portable"] is True
    assert manifest["arithmetic"]["blas"] == ["Haswell"]


def test_without_it_the_command_says_what_may_differ(lrc: Lrc, packed: Path) -> None:
    from lrc.cli.tables import arithmetic_line

    record = json.loads((packed / "lrc.json").read_text())["arithmetic"]
    said = arithmetic_line(record, portable=False)
    assert f"OpenBLAS for {record['blas'][0]}" in said
    assert "--portable gives the same bytes there" in said


def test_a_program_in_another_environment_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, model: Path, text: Path, lrc: Lrc, tmp_path: Path
) -> None:
    monkeypatch.setattr("lrc.base.arithmetic.is_portable", lambda: False)
    outcome = lrc("compress", model, "-o", tmp_path / "out", "--calib", text, "--portable")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "OPENBLAS_CORETYPE" in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_config_file_asks_for_it_too(tmp_path: Path, model: Path, text: Path) -> None:
    (config := tmp_path / "spec.json").write_text('{"portable": true, "distil": {"epochs": -1}}')
    done = command(OLD, "compress", model, "-o", tmp_path / "o", "--config", config)
    assert done.returncode == 1
    assert done.stderr.startswith("lrc: error:")


def test_a_device_and_portable_bytes_contradict_each_other() -> None:
    with pytest.raises(SpecError, match="portable ones are made on the cpu"):
        lrc.CompressSpec(decompose=lrc.DecomposeSpec(device="cuda"), portable=True)


def test_what_was_made_elsewhere_is_noted_where_it_is_made_again(
    lrc: Lrc, packed: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrc.pipeline.reproduce import _rounded_otherwise

    ours = json.loads((packed / "lrc.json").read_text())["arithmetic"]
    assert _rounded_otherwise(ours, ours) is None
    assert _rounded_otherwise(None, ours) is None
    note = _rounded_otherwise({**ours, "blas": ["Nocona"]}, ours)
    assert note is not None
    assert "blas ['Nocona']" in note
    assert "--portable" in note


def test_the_environment_is_portable_once_it_is_set() -> None:
    code = "from lrc.base.arithmetic import is_portable; print(is_portable())"
    for environment, expected in ((portable_environment(), "True"), (OLD, "False")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == expected
    assert is_portable() in (True, False)
