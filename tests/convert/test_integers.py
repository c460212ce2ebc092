"""Packed integers for other programs: bytes that stay, and values that are ours bit for bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from make_integers_golden import GOLDEN, SIZES, WIDTHS, source

from lrc.cli.main import main
from lrc.convert import export
from lrc.convert.integer_target import for_integers
from lrc.convert.integers import integers_of, packed_words
from lrc.convert.plain_codes import dense_codes
from lrc.errors import SpecError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.models.opened import open_model
from lrc.models.tensors import weight_of
from lrc.spec import CompressSpec, DecomposeSpec, QuantSpec

every_format = pytest.mark.parametrize("target", WIDTHS)


def bits_of(words: np.ndarray, count: int, bits: int) -> np.ndarray:
    """Numbers of a string of bits, lowest first, from rows of words: by whole Python numbers."""
    found = []
    for row in words:
        whole = sum(int(word) << 32 * place for place, word in enumerate(row.view(np.uint32)))
        found.append([(whole >> bits * i) & ((1 << bits) - 1) for i in range(count)])
    return np.array(found)


def settings_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["quantization_config"]


def stored(folder: Path, layer: str) -> dict[str, np.ndarray]:
    file = SafetensorsFile(folder / "model.safetensors")
    own = [name for name in file.names if name.rpartition(".")[0] == layer]
    return {name.rpartition(".")[2]: np.array(file.read(name)) for name in own}


@every_format
def test_an_export_has_the_bytes_that_it_had(target: str, tmp_path: Path) -> None:
    out = export(source(target), tmp_path / "out", target)
    before = {f.name: f.read_bytes() for f in (GOLDEN / target).iterdir()}
    assert {f.name: f.read_bytes() for f in out.iterdir()} == before


def test_compressed_tensors_decodes_it_to_our_values() -> None:
    """By digests that the package itself has written."""
    known = json.loads((GOLDEN / "decoded.json").read_text())["sha256"]
    model, opened = open_model(source("compressed-tensors"))
    widths = set()
    for layer in model.tensors.matrices:
        ours = dense_codes(opened, weight_of(layer))
        assert hashlib.sha256(ours.astype("<f4").tobytes()).hexdigest() == known.pop(layer)
        widths.add(integers_of(opened, weight_of(layer)).scheme.bits)
    assert not known
    assert widths == {2, 3, 4, 8}


def test_compressed_tensors_by_its_formula() -> None:
    model, opened = open_model(source("compressed-tensors"))
    for layer in model.tensors.matrices:
        own = stored(GOLDEN / "compressed-tensors", layer)
        (m, n), scales = own["weight_shape"], own["weight_scale"].astype(np.float32)
        bits = integers_of(opened, weight_of(layer)).scheme.bits
        codes = bits_of(own["weight_packed"], n, bits) - 2 ** (bits - 1)
        values = np.repeat(scales, n // scales.shape[1], axis=1) * codes.astype(np.float32)
        assert values.shape == (m, n)
        assert np.array_equal(values, dense_codes(opened, weight_of(layer)))


def test_gptq_by_its_formula() -> None:
    """Zero points are stored less 1, and 3 bits run on over the ends of words."""
    settings = settings_of(GOLDEN / "gptq")
    assert settings == json.loads((GOLDEN / "gptq" / "quantize_config.json").read_text())
    bits = settings["bits"]
    model, opened = open_model(source("gptq"))
    for layer in model.tensors.matrices:
        own = stored(GOLDEN / "gptq", layer)
        m = own["scales"].shape[1]
        n = len(own["g_idx"])
        assert own["g_idx"].tolist() == [i // settings["group_size"] for i in range(n)]
        codes = bits_of(np.ascontiguousarray(own["qweight"].T), n, bits).T
        zeros = bits_of(own["qzeros"], m, bits) + 1
        scales = own["scales"].astype(np.float32)
        values = scales[own["g_idx"]] * (codes - zeros[own["g_idx"]]).astype(np.float32)
        assert np.array_equal(values.T, dense_codes(opened, weight_of(layer))), layer


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("count", [1, 31, 32, 33])
def test_words_are_one_string_of_bits(bits: int, count: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (3, count)).astype(np.uint8)
    words = packed_words(codes, bits)
    assert words.dtype == np.int32
    assert words.shape == (3, -(-count * bits // 32))
    assert np.array_equal(bits_of(words, count, bits), codes)


def test_every_width_has_its_targets() -> None:
    groups = settings_of(GOLDEN / "compressed-tensors")["config_groups"].values()
    found = {one["weights"]["num_bits"]: one["targets"] for one in groups}
    assert found[2] == [r"re:.*\.q_proj$"]
    assert found[8] == [r"re:.*\.o_proj$"]
    assert len(found[3]) == 4


def test_factors_are_left_out_and_told(tmp_path: Path) -> None:
    notes: list[str] = []
    export(source("compressed-tensors"), tmp_path / "out", "compressed-tensors", note=notes.append)
    assert [note for note in notes if "--to peft" in note and "7 matrices" in note]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("integers") / "dense", **SIZES)


def of_bits(bits: int) -> CompressSpec:
    return CompressSpec(decompose=DecomposeSpec(quant=QuantSpec("uniform", bits)))


def test_groups_are_as_large_as_all_rows_allow(dense: Path, tmp_path: Path) -> None:
    wide = tiny.write_model(tmp_path / "wide", **SIZES | {"hidden_size": 128,
                            "intermediate_size": 192, "head_dim": 64})  # fmt: skip
    small, large = (for_integers(m, of_bits(4), "gptq").decompose.quant for m in (dense, wide))
    assert small.codebook.endswith("32")
    assert large.codebook.endswith("64")
    asked = for_integers(wide, of_bits(2), "gptq", group=32).decompose.quant
    assert (asked.codebook, asked.bits) == (small.codebook, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--bits", "5"), "no codes of 5 bits; use one of 2, 3, 4, 8"),
        (("--group-size", "48"), "groups of 128, 64, 32, not of 48"),
        (("--group-size", "64"), "no whole number of groups of 64"),
        (("--codebook", "e8p"), "leave --codebook out"),
        (("--type", "Q4_K"), "--type is one of --for gguf"),
        (("--rotation", "hadamard"), "has no rotation"),
        (("--target-bpw", "3"), "contradict each other"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    given = ["compress", str(dense), "-o", str(tmp_path / "o"), "--for", "gptq", *options]
    assert main(given) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert said in told[0]
    assert not (tmp_path / "o").exists()


def test_gptq_refuses_layers_that_differ(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"one width and one group size.*compressed-tensors"):
        export(source("compressed-tensors"), tmp_path / "out", "gptq")
    assert not (tmp_path / "out").exists()
