"""What surrounds a CUDA device: errors where there is none, and that its answers are used."""

from __future__ import annotations

import numpy as np
import pytest
from numpy_as_cupy import fake_cupy, stand_in

import lrc
from lrc.cli.main import main
from lrc.errors import SpecError
from lrc.quant import get_quantizer
from lrc.quant.cuda import device_note, ring_code
from lrc.quant.ldlq import Grid, Rounded, ldlq, polish
from lrc.spec import DecomposeSpec, LowRankSpec, QuantSpec
from lrc_kernels.gpu import device, rings
from lrc_kernels.trellis_fixed import hashed_code, shuffled_code


@pytest.fixture
def cupy_is(monkeypatch):
    def given(module):
        stand_in(monkeypatch, module)

    yield given
    device.cupy.cache_clear()


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "CuPy cannot be imported .*install the extra cuda"),
        (fake_cupy(None), "no CUDA device .driver version is insufficient."),
        (fake_cupy(0), "no CUDA device"),
    ],
)
def test_a_device_that_is_not_there_is_refused(cupy_is, module, reason):
    cupy_is(module)
    with pytest.raises(SpecError, match=f"^device cuda is not there: .*{reason}.*device cpu$"):
        lrc.decompose(np.eye(16), spec=DecomposeSpec(device="cuda"))


def test_the_command_says_so_in_a_line_before_it_reads_the_model(cupy_is, capsys, tmp_path):
    cupy_is(None)
    out = tmp_path / "out"
    assert main(["compress", str(tmp_path / "none"), "-o", str(out), "--device", "cuda"]) != 0
    said = capsys.readouterr().err.strip()
    assert "device cuda is not there" in said
    assert "\n" not in said
    assert not out.exists()


def test_other_devices_are_unknown():
    with pytest.raises(SpecError, match="device 'tpu' is unknown; use one of cpu, cuda"):
        DecomposeSpec(device="tpu")
    assert device_note("cpu") is None


@pytest.fixture
def on_fake_device(monkeypatch, cupy_is):
    """Rounding on a device that is the CPU's, with a record of its calls."""
    cupy_is(fake_cupy(1))
    calls = []

    def grid(m, scale, code):
        name = "trellis" if len(code.values) == 1 else "shuffle"
        return Grid(get_quantizer(QuantSpec(f"{name}{code.state_bits}", code.bits), m), scale)

    def flat(rounded):
        return rounded.codes[0][:, :, 0], rounded.values

    def ldlq_rings(W, feedback, scale, code, width):
        calls.append("ldlq")
        return flat(ldlq(W, feedback, grid(len(W), scale, code)))

    def polish_rings(W, states, values, H, inverse, scale, code, width, sweeps):
        calls.append("polish")
        np.testing.assert_array_equal(inverse, 1 / np.diag(H))
        begin = Rounded((states[:, :, None],), values)
        return flat(polish(W, begin, H, grid(len(W), scale, code), sweeps))

    monkeypatch.setattr(rings, "ldlq_rings", ldlq_rings)
    monkeypatch.setattr(rings, "polish_rings", polish_rings)
    return calls


@pytest.mark.parametrize("rotation", ["hadamard", "none"])
def test_what_a_device_answers_is_what_is_packed(on_fake_device, rotation):
    W = np.random.default_rng(7501).standard_normal((256, 24), dtype=np.float32)
    spec = {"quant": QuantSpec("shuffle10", 2), "low_rank": LowRankSpec(rank=0)}
    expected = lrc.decompose(W, spec=DecomposeSpec(rotation=rotation, **spec))
    found = lrc.decompose(W, spec=DecomposeSpec(rotation=rotation, device="cuda", **spec))
    assert on_fake_device == ["ldlq", "polish"]
    np.testing.assert_array_equal(found.to_dense(), expected.to_dense())
    assert found.notes == expected.notes


def test_rounds_with_low_rank_go_through_the_device_too(on_fake_device):
    W = np.random.default_rng(7509).standard_normal((256, 24), dtype=np.float32)
    spec = {"quant": QuantSpec("shuffle10", 2), "low_rank": LowRankSpec(rank=2)}
    expected = lrc.decompose(W, spec=DecomposeSpec(**spec))
    found = lrc.decompose(W, spec=DecomposeSpec(device="cuda", **spec))
    assert on_fake_device.count("polish") > 1
    assert found.relative_error == pytest.approx(expected.relative_error, rel=1e-3)


@pytest.mark.parametrize(
    ("quant", "rows"), [(QuantSpec("e8p", 2), 256), (QuantSpec("trellis8", 2), 128)]
)
def test_what_only_the_cpu_knows_is_done_there_and_noted(on_fake_device, quant, rows):
    W = np.random.default_rng(7503).standard_normal((rows, 16), dtype=np.float32)
    expected = lrc.decompose(W, spec=DecomposeSpec(quant=quant))
    found = lrc.decompose(W, spec=DecomposeSpec(quant=quant, device="cuda"))
    assert on_fake_device == []
    np.testing.assert_array_equal(found.to_dense(), expected.to_dense())
    (note,) = set(found.notes) - set(expected.notes)
    assert note.startswith("codes found on the CPU: device cuda knows rings in blocks of 256 x 1")


def test_rounding_to_nearest_is_noted_and_low_rank_alone_has_no_codes(on_fake_device):
    W = np.random.default_rng(7507).standard_normal((256, 16), dtype=np.float32)
    low_rank = LowRankSpec(rank=2)
    for recipe, count in (("round-to-nearest", 1), ("low-rank", 0)):
        found = lrc.decompose(
            W, spec=DecomposeSpec(recipe=recipe, low_rank=low_rank, device="cuda")
        )
        assert sum("feedback alone" in note for note in found.notes) == count
    assert on_fake_device == []


def test_codes_of_a_device_decode_as_their_quantizers():
    states = np.random.default_rng(7505).integers(0, 1 << 10, (256, 3, 1)).astype(np.uint16)
    for name, code in (("trellis10", hashed_code(2, 10)), ("shuffle10", shuffled_code(2, 10))):
        quantizer = get_quantizer(QuantSpec(name, 2), 256)
        assert ring_code(quantizer, np.eye(3)) is code
        phase = np.arange(256)[:, None] % len(code.levels)
        np.testing.assert_array_equal(
            code.levels[phase, states[:, :, 0]], quantizer.decode((states,))
        )


@pytest.mark.parametrize(
    ("bits", "state_bits", "limit", "costs", "back"),
    [
        (2, 12, 99 << 10, True, True),
        (2, 14, 227 << 10, True, False),
        (4, 14, 227 << 10, True, True),
        (2, 16, 227 << 10, False, False),
    ],
)
def test_costs_come_first_into_shared_memory(bits, state_bits, limit, costs, back):
    found = rings.layout(bits, state_bits, limit)
    assert (found.shared_costs, found.shared_back) == (costs, back)
    assert found.shared <= limit
    assert (found.work == 0) == (costs and back)
    assert found.threads % 256 == 0
