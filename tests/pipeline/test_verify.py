"""`lrc verify`: any flipped bit is found, and errors on record are those of the bytes on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import packed_golden
import pytest
from packed_golden import with_tensors

import lrc
from lrc.errors import LrcError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.models.opened import open_model
from lrc.parts.integrity import differing_files
from lrc.parts.manifest import CHECKSUMS
from lrc.pipeline.verify import error_tolerance

Lrc = Callable[..., Any]
FLIPS = 200


def test_a_model_that_is_what_was_written(lrc: Lrc, packed: Path, model: Path) -> None:
    said = lrc("verify", packed, "--original", model).check().out
    assert "all checksums match, all values are in their ranges" in said
    assert "all errors are those on record" in said
    assert "note:" not in said


def test_errors_that_no_report_has_are_not_called_the_same(
    lrc: Lrc, copy: Path, model: Path
) -> None:
    manifest = json.loads((copy / "lrc.json").read_text())
    for record in manifest["matrices"].values():
        del record["frobenius_error"]
    del manifest[CHECKSUMS]
    (copy / "lrc.json").write_text(json.dumps(manifest))
    said = lrc("verify", copy, "--original", model).check().out
    assert "errors of weights alone are not on record" in said
    assert "all errors are those on record" not in said


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def test_every_flipped_bit_is_found(copy: Path) -> None:
    # What a run took is no part of the model, and differs between two runs of one command.
    names = (path for path in copy.iterdir() if path.name != "lrc-run.json")
    files = sorted(path for path in names if path.is_file())
    sizes = np.array([path.stat().st_size for path in files])
    rng = np.random.default_rng(1804)
    # Half by bytes, half by files: the small ones are the model's as well.
    which = [*rng.choice(len(files), FLIPS // 2, p=sizes / sizes.sum())]
    which += [*rng.integers(0, len(files), FLIPS - len(which))]
    assert not list(differing_files(copy))
    assert set(which) == set(range(len(files)))
    for index in which:
        path, bit = files[index], int(rng.integers(0, 8 * sizes[index]))
        content = bytearray(path.read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            found = " ".join(differing_files(copy))
        except LrcError as error:
            found = str(error)
        assert path.name in found, (path.name, bit)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
    assert not list(differing_files(copy))


def test_what_differs_is_named_and_the_exit_code_says_so(lrc: Lrc, copy: Path) -> None:
    block, config = copy / "block-00001.safetensors", copy / "tokenizer_config.json"
    content = bytearray(block.read_bytes())
    content[-1] ^= 1
    block.write_bytes(content)
    config.unlink()
    outcome = lrc("verify", copy, "--quiet")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "block-00001.safetensors is not what was written" in outcome.err
    assert "tokenizer_config.json" in outcome.err
    assert "all checksums match" not in outcome.out
    assert lrc("verify", copy, "--json").json["differences"]


@pytest.mark.parametrize("change", ["key", "own", "file"])
def test_a_manifest_cannot_lose_its_checksums_unnoticed(copy: Path, change: str) -> None:
    path = copy / "lrc.json"
    text = path.read_text()
    old, new = {
        "key": (f'"{CHECKSUMS}"', '"shb256"'),
        "own": ('"lrc.json"', '"lrc.jsoo"'),
        "file": ('"shell.safetensors": "', '"shell.safetensorr": "'),
    }[change]
    assert old in text
    path.write_text(text.replace(old, new))
    assert list(differing_files(copy))


def test_files_without_checksums_say_so(lrc: Lrc) -> None:
    for golden in (packed_golden.V1 / "model", packed_golden.V2 / "model"):
        said = lrc("verify", golden).check().out
        assert "it has no checksums: an older version of lrc wrote it" in said


@pytest.mark.parametrize(
    ("tensor", "value", "said"),
    [
        ("q_proj.weight.gain", np.float32(np.nan), "not finite"),
        ("q_proj.weight.scales", np.float16(np.inf), "not finite"),
        ("input_layernorm.weight", np.float32(np.inf), "not finite"),
    ],
)
def test_values_out_of_range_are_found_without_checksums(
    lrc: Lrc, tmp_path: Path, tensor: str, value: Any, said: str
) -> None:
    def change(tensors: dict[str, Any]) -> None:
        (name,) = [name for name in tensors if name.endswith(tensor)]
        tensors[name].reshape(-1)[0] = value

    outcome = lrc("verify", with_tensors(tmp_path, change))
    assert outcome.code == 1
    assert tensor in outcome.err
    assert said in outcome.err


def test_what_is_no_compressed_model_is_said_in_one_line(
    lrc: Lrc, model: Path, tmp_path: Path
) -> None:
    for path in (model, tmp_path / "none"):
        for verb in (("verify", path), ("reproduce", path, "--original", model)):
            outcome = lrc(*verb)
            assert outcome.code == 1
            assert outcome.err == (
                f"lrc: error: {path} has no lrc.json; give a directory that lrc compress made\n"
            )


def test_another_original_is_refused(lrc: Lrc, packed: Path, text: Path, tmp_path: Path) -> None:
    import tiny

    other = tiny.write_model(tmp_path / "other", seed=5)
    outcome = lrc("verify", packed, "--original", other)
    assert outcome.code == 1
    assert f"was not made from {other}; give the model it was made from" in outcome.err


def test_errors_are_those_of_the_bytes_on_disk(packed: Path, model: Path) -> None:
    found = lrc.verify(packed, model)
    weights = SafetensorsFile(model / "model.safetensors")
    _, source = open_model(packed)
    assert set(found.errors) == set(source.report["matrices"])
    for name, error in found.errors.items():
        W = weights.float32(name).astype(np.float64)
        E = W - source.dense(name)
        assert error.frobenius_error == pytest.approx(
            np.linalg.norm(E) / np.linalg.norm(W), rel=1e-12
        )
        assert error.recorded == pytest.approx(
            error.frobenius_error, abs=error_tolerance(*W.shape, error.frobenius_error)
        )
        exact = np.linalg.norm(E, 2)
        assert exact <= error.spectral_bound <= 1.01 * exact
        assert error.spectral_bound <= (1 + 1e-9) * error.frobenius_norm


def test_an_error_that_is_not_the_one_on_record_is_named(
    lrc: Lrc, copy: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files without checksums, as anything else would give the change away."""
    path = copy / "lrc.json"
    manifest = json.loads(path.read_text())
    del manifest[CHECKSUMS]
    name = "model.layers.1.mlp.up_proj.weight"
    manifest["matrices"][name]["frobenius_error"] *= 1.001
    path.write_text(json.dumps(manifest))
    outcome = lrc("verify", copy, "--original", model)
    assert outcome.code == 1
    assert f"{name} has the relative error" in outcome.err


def test_theory_stands_beside_errors_of_equally_spaced_codes(
    lrc: Lrc, model: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lrc("compress", model, "-o", out, "--calib", text, *fast,
        "--codebook", "uniform", "--bits", 4, "--streams", "original").check()  # fmt: skip
    said = lrc("verify", out, "--original", model).check().out
    assert "theory" in said.splitlines()[0]
    for name, record in json.loads((out / "lrc.json").read_text())["matrices"].items():
        if name != "model.embed_tokens.weight":
            assert 0 < record["relative_error"] < record["caldera_bound"]
