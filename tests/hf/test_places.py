"""Where packed matrices go in other libraries' models, and what a layer computes; without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from packed_cases import random_matrix
from packed_golden import GOLDEN

import lrc.hf
from lrc.errors import SpecError, UnsupportedModelError
from lrc.formats.view import View
from lrc.hf.layer import PackedProduct
from lrc.hf.places import Places, dense_tensors, packed_layers, places
from lrc.hf.quantizer import Replacing, is_packed_directory, refuse_missing
from lrc.models.opened import open_model
from lrc.models.tensors import Matrix, Plain, Table, Tensor, Tensors
from lrc.parts.packed import PackedCheckpoint
from lrc.testing.tolerance import factor_bound


def linear(stored: str) -> str | None:
    return stored.removesuffix(".weight") if stored.endswith(".weight") else None


def test_every_layer_of_a_packed_model_is_packed_and_the_rest_is_loaded() -> None:
    model, source = open_model(GOLDEN)
    assert isinstance(source, PackedCheckpoint)
    found = places(model, source, linear)
    assert found.layers == {name: (f"{name}.weight",) for name in model.tensors.matrices}
    assert not found.transposed
    dense = dense_tensors(model, source, found)
    assert dense.keys() | {f"{name}.weight" for name in found.layers} == model.tensors.read.keys()
    for name, values in dense.items():
        assert values.dtype == np.float32
        assert np.array_equal(values, source.dense(name))
    for name, (matrix,) in packed_layers(source, found).items():
        assert np.array_equal(matrix.to_dense(), source.dense(f"{name}.weight"))


class Packed:
    """A source whose matrices are all packed."""

    def __init__(self, tensors: Tensors) -> None:
        self.report = {"matrices": dict.fromkeys(tensors.read)}


def found_of(read: dict[str, Tensor], layer_of=linear) -> Places:
    model = type("Model", (), {"tensors": Tensors(read, lambda name: None)})()
    return places(model, Packed(model.tensors), layer_of)


def rows_of(*views: View) -> dict[str, Tensor]:
    return {
        f"part{i}.weight": Tensor((2, 3), Matrix(0, "site", f"part{i}"), (view,))
        for i, view in enumerate(views)
    }


def test_rows_of_one_tensor_are_one_layer_in_their_order() -> None:
    found = found_of(rows_of(View("a.weight", rows=(2, 4)), View("a.weight", rows=(0, 2))))
    assert found.layers == {"a": ("part1.weight", "part0.weight")}
    assert found.dense == {}


@pytest.mark.parametrize(
    "views",
    [
        (View("a.weight", rows=(2, 4)),),
        (View("a.weight", rows=(0, 2)), View("a.weight", rows=(3, 5))),
        (View("a.weight", index=0), View("a.weight", index=1)),
        (View("a.weight", rows=(0, 2)), View("a.weight", rows=(2, 4), transposed=True)),
    ],
)
def test_what_is_no_whole_layer_is_decoded(views: tuple[View, ...]) -> None:
    found = found_of(rows_of(*views))
    assert found.layers == {}
    assert len(found.dense["a.weight"]) == len(views)


def test_heads_are_layers_and_embeddings_are_not() -> None:
    read = {
        "embedding.weight": Tensor((9, 3), Table("embedding")),
        "head.weight": Tensor((9, 3), Table("head")),
        "norm.weight": Tensor((3,), Plain(None, "norm.weight")),
        "turned.weight": Tensor((2, 3), Matrix(0, "s", "t"), (View("t.weight", transposed=True),)),
        "missing.weight": Tensor((2, 3), Matrix(0, "s", "m")),
    }
    found = found_of(read, lambda stored: None if "missing" in stored else linear(stored))
    assert found.layers == {"head": ("head.weight",), "t": ("turned.weight",)}
    assert found.transposed == {"t"}
    assert found.dense.keys() == {"embedding.weight", "norm.weight", "missing.weight"}


def test_a_layer_multiplies_with_its_matrices_one_after_another() -> None:
    matrices = [random_matrix((m, 24), ("uniform", 4), rank=1, seed=m) for m in (8, 16)]
    layer = PackedProduct()
    layer.hold(matrices, None, transposed=False)
    assert (layer.out_features, layer.in_features) == (24, 24)
    W = np.concatenate([matrix.to_dense() for matrix in matrices])
    assert np.array_equal(layer.dense(), W)
    x = np.random.default_rng(3).standard_normal((2, 5, 24)).astype(np.float32)
    size = np.abs(x).max() * np.abs(W).sum(axis=1).max()
    assert np.abs(layer.product(x) - x @ W.T).max() < factor_bound(64, np.float32) * size
    alone = x[:1, :1]  # on 15 bits
    assert np.abs(layer.product(alone) - alone @ W.T).max() < 2.0**-14 * size


def test_other_directories_are_not_ours(tmp_path: Path) -> None:
    assert is_packed_directory(GOLDEN)
    assert is_packed_directory(str(GOLDEN))
    assert not is_packed_directory(tmp_path)
    assert not is_packed_directory("ORG/NAME")


@pytest.mark.parametrize("device_map", ["cuda", {"": "cuda:0"}, {"": 0}])
def test_other_devices_are_refused(device_map: object) -> None:
    with pytest.raises(SpecError, match="runs on the CPU"):
        Replacing().validate_environment(device_map=device_map)


@pytest.mark.parametrize("device_map", [None, "auto", "cpu", {"": "cpu"}])
def test_the_processor_is_taken(device_map: object) -> None:
    Replacing().validate_environment(device_map=device_map)
    assert Replacing().update_device_map("auto") is None


def test_what_was_not_loaded_is_refused_by_name() -> None:
    refuse_missing("OUT", {"missing_keys": set(), "mismatched_keys": set(), "unexpected_keys": {1}})
    for missing, other in (({"b.weight", "a.weight"}, set()), (set(), {("a.weight", (1,), (2,))})):
        with pytest.raises(UnsupportedModelError, match=r"OUT has no values for .*a\.weight"):
            refuse_missing("OUT", {"missing_keys": missing, "mismatched_keys": other})


def test_the_package_says_how_to_use_it() -> None:
    assert "from_pretrained" in str(lrc.hf.__doc__)
