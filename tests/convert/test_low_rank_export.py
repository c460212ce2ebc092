"""L R as an adapter of PEFT: over what is exported without them it is the whole model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from make_integers_golden import source
from packed_cases import random_matrix
from packed_golden import GOLDEN

import lrc
from lrc.convert import export
from lrc.convert.low_rank import factors_of
from lrc.convert.plain_codes import dense_codes
from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.models.opened import open_model
from lrc.models.tensors import weight_of
from lrc.testing.tolerance import factor_bound

#: Rotated matrices, and codes for another program.
MODELS = pytest.mark.parametrize("model", [GOLDEN, source("compressed-tensors")])


class Alone:
    """A source of one matrix."""

    def __init__(self, matrix) -> None:
        self.matrix = matrix

    def shape(self, name: str) -> tuple[int, int]:
        return self.matrix.shape

    def linear(self, name: str):
        return self.matrix

    def dense(self, name: str) -> np.ndarray:
        return self.matrix.to_dense()


@pytest.mark.parametrize("rotation", ["none", "hadamard", "inputs"])
@pytest.mark.parametrize("rank", [0, 3])
def test_codes_and_factors_are_the_matrix(rotation: str, rank: int) -> None:
    matrix = random_matrix((24, 40), ("uniform", 4), rotation=rotation, rank=rank, seed=5)
    whole, codes = matrix.to_dense(), dense_codes(Alone(matrix), "w")
    if rank == 0:
        assert np.array_equal(whole, codes)
        return
    down, up = factors_of(matrix)
    assert (down.shape, up.shape) == ((3, 40), (3, 24))
    product = up.T @ down
    assert np.abs(product).max() > 1e-3 * np.abs(whole).max()
    bound = factor_bound(128, np.float32) * (np.abs(codes).max() + np.abs(product).max()) * 8
    assert np.abs(codes + product - whole).max() < bound


@MODELS
def test_an_adapter_over_its_base_is_the_model(model: Path, tmp_path: Path) -> None:
    base = Checkpoint.open(export(model, tmp_path / "base", "hf-codes"))
    adapter = export(model, tmp_path / "adapter", "peft")
    file = SafetensorsFile(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    opened, packed = open_model(model)
    found = 0
    for layer in opened.tensors.matrices:
        place = f"base_model.model.{layer}"
        down, up = (np.array(file.read(f"{place}.lora_{end}.weight")) for end in "AB")
        assert down.dtype == up.dtype == np.float32
        assert config["rank_pattern"].get(layer, config["r"]) == len(down)
        assert config["alpha_pattern"].get(layer, config["lora_alpha"]) == len(down)
        whole = packed.dense(weight_of(layer))
        lost = np.abs(base.dense(weight_of(layer)) + up @ down - whole).max()
        assert lost < 1e-3 * np.abs(whole).max()
        found += 2
    assert len(file.names) == found


def test_a_model_without_factors_has_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no matrix of .* has L R"):
        export(source("gptq"), tmp_path / "adapter", "peft")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.filterwarnings("default")  # of transformers' own
@MODELS
def test_peft_computes_the_same(model: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="extra parity")
    peft = pytest.importorskip("peft", reason="extra parity")
    transformers = pytest.importorskip("transformers", reason="extra parity")
    base = export(model, tmp_path / "base", "hf-codes")
    adapter = export(model, tmp_path / "adapter", "peft")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(theirs, adapter).eval()
    ids = np.random.default_rng(5).integers(0, 256, (1, 24))
    with torch.no_grad():
        logits = adapted(torch.from_numpy(ids)).logits.numpy()
        with adapted.disable_adapter():
            without = adapted(torch.from_numpy(ids)).logits.numpy()
    ours = lrc.load(model).model.logits(ids)
    most = np.abs(ours).max()
    assert np.abs(logits - ours).max() < 4e-3 * most  # the base is rounded to float16
    assert np.abs(without - ours).max() > 10 * np.abs(logits - ours).max()
