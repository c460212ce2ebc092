"""Weights that other programs have quantised decode by their formats' formulas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from make_integers_golden import GOLDEN, SIZES, source

from lrc.cli.main import main
from lrc.convert.integers import packed_words
from lrc.convert.plain_codes import dense_codes
from lrc.convert.quantised import import_quantised
from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.writing import write_safetensors
from lrc.models.opened import open_model, open_original
from lrc.models.tensors import weight_of

RNG = np.random.default_rng(31)
#: Inputs, outputs and inputs of a group of a layer.
N, M, GROUP = 64, 32, 16


def written(folder: Path, tensors: dict[str, np.ndarray], **settings: object) -> Path:
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", tensors)
    config = {"model_type": "any", "quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def drawn(bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (n, m), zero points and scales (groups, m)."""
    groups = N // GROUP
    codes = RNG.integers(0, 1 << bits, (N, M)).astype(np.uint8)
    zeros = RNG.integers(1, (1 << bits) + 1, (groups, M))
    return codes, zeros, (RNG.random((groups, M)) + 0.1).astype(np.float16)


def expected(codes, zeros, scales, places) -> np.ndarray:
    values = scales[places].astype("f4") * (codes.astype("f4") - zeros[places].astype("f4"))
    return values.T.astype(np.float16)


def decoded(folder: Path, out: Path, layer: str = "layer") -> np.ndarray:
    return Checkpoint.open(import_quantised(folder, out)).dense(f"{layer}.weight")


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
def test_gptq_with_inputs_in_any_order(bits: int, version: str, tmp_path: Path) -> None:
    codes, zeros, scales = drawn(bits)
    places = RNG.permutation(N).astype(np.int32) // GROUP
    stored = zeros - 1
    tensors = {
        "layer.qweight": np.ascontiguousarray(packed_words(codes.T, bits).T),
        "layer.qzeros": packed_words(stored.astype(np.uint8), bits),
        "layer.scales": scales,
        "layer.g_idx": places,
    }
    folder = written(
        tmp_path / "in", tensors, quant_method="gptq", bits=bits, checkpoint_format=version
    )
    meant = zeros if version == "gptq" else stored
    assert np.array_equal(decoded(folder, tmp_path / "out"), expected(codes, meant, scales, places))


def test_awq_has_outputs_in_an_order_of_its_own(tmp_path: Path) -> None:
    codes, zeros, scales = drawn(4)
    zeros = zeros % 16

    def words(values: np.ndarray) -> np.ndarray:
        found = np.zeros((len(values), M // 8), np.uint32)
        for place, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            found |= values[:, column::8].astype(np.uint32) << np.uint32(4 * place)
        return found.view(np.int32)

    tensors = {"layer.qweight": words(codes), "layer.qzeros": words(zeros), "layer.scales": scales}
    folder = written(tmp_path / "in", tensors, quant_method="awq", bits=4, version="GEMM")
    places = np.arange(N) // GROUP
    assert np.array_equal(decoded(folder, tmp_path / "out"), expected(codes, zeros, scales, places))


def test_compressed_tensors_with_zero_points(tmp_path: Path) -> None:
    codes, zeros, scales = drawn(4)
    zeros = zeros % 16
    tensors = {
        "layer.weight_packed": packed_words(np.ascontiguousarray(codes.T), 4),
        "layer.weight_scale": np.ascontiguousarray(scales.T),
        "layer.weight_zero_point": np.ascontiguousarray(packed_words(zeros.astype(np.uint8), 4).T),
        "layer.weight_shape": np.array([M, N], np.int64),
    }
    settings = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    folder = written(tmp_path / "in", tensors, **settings)
    places = np.arange(N) // GROUP
    assert np.array_equal(decoded(folder, tmp_path / "out"), expected(codes, zeros, scales, places))


@pytest.mark.parametrize("target", ["compressed-tensors", "gptq"])
def test_what_we_write_is_read(target: str, tmp_path: Path) -> None:
    model, opened = open_model(source(target))
    out, _ = open_original(import_quantised(GOLDEN / target, tmp_path / "out"))
    for layer in model.tensors.matrices:
        values = dense_codes(opened, weight_of(layer)).astype(np.float16)
        assert np.array_equal(out.source.dense(weight_of(layer)), values)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "of method None|not quantised"),
        ({"quant_method": "exl3"}, "of method exl3"),
        ({"quant_method": "awq", "version": "gemv"}, "of method awq gemv"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "float-quantized"),
    ],
)
def test_other_methods_are_refused_by_name(settings, said, tmp_path: Path) -> None:
    folder = written(tmp_path / "in", {"layer.qweight": np.zeros((2, 2), np.int32)}, **settings)
    with pytest.raises(UnsupportedModelError, match=said):
        import_quantised(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tensors = {"layer.qweight": np.zeros((8, M), np.int32)}
    folder = written(tmp_path / "in", tensors, quant_method="gptq", bits=4)
    with pytest.raises(FormatError, match=r"tensors of layer do not fit.*missing"):
        import_quantised(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_repairs_a_directory(tmp_path: Path, capsys) -> None:
    """In the form that PEFT reads; with it errors are smaller."""
    dense = tiny.write_model(tmp_path / "dense", **SIZES)
    text, out = tiny.write_text(tmp_path / "text.txt"), tmp_path / "adapter"
    command = ["repair", str(GOLDEN / "gptq"), "--against", str(dense), "-o", str(out)]
    command += ["--rank", "8", "--calib", str(text), "--nsamples", "4", "--seqlen", "32"]
    assert main([*command, "--threads", "1", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert all(after < before for before, after in told["errors"].values())
    assert len(told["errors"]) == 7
    assert told["file_bytes"] == sum(file.stat().st_size for file in out.iterdir())
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(GOLDEN / "gptq")
    assert config["r"] == config["lora_alpha"] == 8
    assert {path.name for path in tmp_path.iterdir()} == {"dense", "text.txt", "adapter"}
