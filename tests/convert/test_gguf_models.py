"""GGUF files of every architecture become the checkpoints that they were written from."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import gguf_models
import numpy as np
import pytest
import tiny_gguf
from gguf_models import CASES, GOLDEN, GgufCase, draw, shifted, stored

from lrc.convert.gguf import import_gguf
from lrc.convert.gguf.architectures import ARCHITECTURES, CLASSES, architecture, hf_config
from lrc.convert.gguf.metadata import Metadata
from lrc.convert.gguf.places import find_places
from lrc.convert.gguf.rope import FACTORS
from lrc.errors import FormatError, LrcError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models import MODELS, load_model

MODELS_GOLDEN = json.loads((GOLDEN / "models.json").read_text("utf-8"))
SEED = 4711
cases = pytest.mark.parametrize("name", CASES)


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the checkpoint that transformers writes."""
    return {key: tuple(shape) for key, shape in MODELS_GOLDEN[name]["shapes"].items()}


def weights_of(name: str) -> gguf_models.Arrays:
    return draw(shapes_of(name), shifted(CASES[name]), SEED)


def metadata(case: GgufCase, tensors: gguf_models.Arrays, **changes: Any) -> Metadata:
    own = {key: value for key, value in (dict(case.fields) | changes).items() if value is not None}
    fields = {f"{case.architecture}.{key}": value for key, value in own.items()}
    shapes = {key: values.shape for key, values in tensors.items()}
    return Metadata({"general.architecture": case.architecture} | fields, shapes)


def config_of(name: str, **changes: Any) -> dict[str, Any]:
    case = CASES[name]
    tensors = stored(case, weights_of(name))
    factors = {key: tensors[key] for key in FACTORS if key in tensors}
    return hf_config(architecture(case.architecture), metadata(case, tensors, **changes), factors)


def lookup(case: GgufCase) -> Callable[[str], str | None]:
    """What the package says of a name."""
    number = {label: key for key, label in gguf.MODEL_ARCH_NAMES.items()}[case.architecture]
    names = gguf.get_tensor_name_map(number, case.fields["block_count"])
    return lambda key: names.get_name(key, (".weight", ".bias"))


def test_every_architecture_has_a_case() -> None:
    assert {case.architecture for case in CASES.values()} == set(ARCHITECTURES)
    assert {golden["config"]["model_type"] for golden in MODELS_GOLDEN.values()} == set(CLASSES)
    assert set(CLASSES) <= set(MODELS)


@cases
def test_settings_become_the_configuration(name: str) -> None:
    """The golden configurations gave the logits of the original models in transformers."""
    assert json.loads(json.dumps(config_of(name))) == MODELS_GOLDEN[name]["config"]


@pytest.mark.parametrize("name", ["qwen2moe", "qwen3moe"])
def test_widths_of_experts_follow_from_their_tensors(name: str) -> None:
    """Old files have no keys for them."""
    keys = ("expert_feed_forward_length", "expert_shared_feed_forward_length")
    found = config_of(name, **dict.fromkeys(keys))
    assert json.loads(json.dumps(found)) == MODELS_GOLDEN[name]["config"]


@cases
def test_settings_that_nothing_reads_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"attention\.max_alibi_bias=8\.0"):
        config_of(name, **{"attention.max_alibi_bias": 8.0})


@cases
def test_weights_become_those_of_the_checkpoint(name: str) -> None:
    """Values are exact but for what float32 loses in adding 1, and in the exponential."""
    case, row = CASES[name], architecture(CASES[name].architecture)
    original, tensors = weights_of(name), stored(CASES[name], weights_of(name))
    found = {key: values.shape for key, values in tensors.items() if key not in FACTORS}
    places = find_places(shapes_of(name), found, row, lookup(case))
    assert places.keys() == original.keys()
    exact = not shifted(case) and "mamba" not in case.architecture
    for key, place in places.items():
        assert place is not None
        values = tensors[place.name] if place.part is None else tensors[place.name][place.part]
        restored = row.restore(key, values, MODELS_GOLDEN[name]["config"])
        bound = 0 if exact else 2e-7
        np.testing.assert_allclose(
            restored.reshape(original[key].shape), original[key], rtol=bound, atol=bound
        )


@cases
def test_the_imported_model_gives_the_logits_of_the_original(name: str, tmp_path: Path) -> None:
    file = gguf_models.write(tmp_path / "m.gguf", CASES[name], weights_of(name), kind=tiny_gguf.F32)
    checkpoint = Checkpoint.open(import_gguf(file, tmp_path / "out"))
    assert {key: checkpoint.shape(key) for key in checkpoint.names()} == shapes_of(name)
    ids = np.array([MODELS_GOLDEN[name]["ids"]], np.int32)
    with np.load(GOLDEN / "logits.npz") as golden:
        expected = golden[name]
    found = load_model(checkpoint).logits(ids)[0, -len(expected) :]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("mamba", "backbone.layers.1.mixer.A_log"),
        ("mamba", "backbone.layers.1.mixer.conv1d.weight"),
        ("mixtral", "model.layers.0.block_sparse_moe.gate.weight"),
    ],
)
def test_what_has_to_be_exact_stays_in_float32(name: str, exact: str, tmp_path: Path) -> None:
    weights = weights_of(name)
    file = gguf_models.write(tmp_path / "m.gguf", CASES[name], weights, kind=tiny_gguf.F16)
    checkpoint = Checkpoint.open(import_gguf(file, tmp_path / "out"))
    assert checkpoint.config["torch_dtype"] == "float16"
    np.testing.assert_allclose(checkpoint.dense(exact), weights[exact], rtol=2e-7, atol=2e-7)
    dtypes = {key: file.info(key).dtype for key, file in checkpoint.shards.items()}
    assert dtypes[exact] == "F32"
    assert set(dtypes.values()) == {"F16", "F32"}


def test_queries_keys_and_values_may_lie_in_one_tensor(tmp_path: Path) -> None:
    """As in old files of Phi-2."""
    weights, case = weights_of("phi2"), CASES["phi2"]
    fused = stored(case, weights)
    for block, end in itertools.product(range(2), ("weight", "bias")):
        parts = [fused.pop(f"blk.{block}.attn_{letter}.{end}") for letter in "qkv"]
        fused[f"blk.{block}.attn_qkv.{end}"] = np.concatenate(parts)
    found = {key: values.shape for key, values in fused.items()}
    places = find_places(shapes_of("phi2"), found, architecture("phi2"), lookup(case))
    for key, values in weights.items():
        place = places[key]
        assert place is not None
        whole = fused[place.name]
        np.testing.assert_array_equal(whole if place.part is None else whole[place.part], values)


def test_single_experts_are_decoded_from_a_stack(tmp_path: Path) -> None:
    """Rows of 32 are quantised; others are not, and make the checkpoint one in float32."""
    weights = weights_of("mixtral")
    file = gguf_models.write(tmp_path / "m.gguf", CASES["mixtral"], weights, kind=tiny_gguf.Q8_0)
    checkpoint = Checkpoint.open(import_gguf(file, tmp_path / "out"))
    for expert in range(4):
        name = f"model.layers.1.block_sparse_moe.experts.{expert}.w1.weight"
        packed = gguf.quants.quantize(weights[name], tiny_gguf.Q8_0)
        expected = gguf.quants.dequantize(packed, tiny_gguf.Q8_0)
        np.testing.assert_array_equal(checkpoint.dense(name), expected)


@cases
@pytest.mark.parametrize("change", ["lost", "added", "longer"])
def test_tensors_that_do_not_fit_are_refused(name: str, change: str, tmp_path: Path) -> None:
    case, row = CASES[name], architecture(CASES[name].architecture)
    found = {k: v.shape for k, v in stored(case, weights_of(name)).items() if k not in FACTORS}
    last = next(key for key in reversed(found) if key.startswith("blk.1."))
    shape = found.pop(last)
    if change == "added":
        found |= {last: shape, "blk.1.attn_sinks.weight": (4,)}
    if change == "longer":
        found[last] = (shape[0] + 1, *shape[1:])
    error: type[LrcError] = UnsupportedModelError if change == "added" else FormatError
    with pytest.raises(error):
        find_places(shapes_of(name), found, row, lookup(case))
