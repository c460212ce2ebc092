"""Every tensor of a checkpoint is read, known to be left out, or refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from random_weights import MemorySource
from safetensors.numpy import save_file
from tiny_llama import tiny_config, tiny_model, tiny_weights

import lrc
from lrc.errors import FormatError, UnsupportedModelError
from lrc.measure.storage import linear_weights
from lrc.models import load_model
from lrc.models.opened import open_original
from lrc.models.tensors import Ignored

Weights = dict[str, NDArray[Any]]
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ROTARY = "model.layers.0.self_attn.rotary_emb.inv_freq"
IDS = np.arange(12)[None]


def model_with(extra: Weights | None = None, drop: tuple[str, ...] = (), **changes: Any) -> Any:
    config = tiny_config(**changes)
    weights = tiny_weights(config, 7) | (extra or {})
    return load_model(MemorySource(config, {n: w for n, w in weights.items() if n not in drop}))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.1.mlp.extra_proj.weight",
        "model.layers.0.conv1d.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_proj.weight_scale_inv",
        "vision.patch.weight",
        "score.weight",
        "lm_head.bias",
    ],
)
@pytest.mark.parametrize("shape", [(4,), (4, 4), (4, 4, 4)])
def test_a_tensor_without_a_place_is_refused_by_name(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"'{name}', which a llama model"):
        model_with({name: np.zeros(shape, np.float32)})


def test_many_tensors_without_a_place_are_one_short_line() -> None:
    with pytest.raises(UnsupportedModelError, match="and 17 more tensors") as caught:
        model_with({f"odd.{i:02}": np.zeros(4, np.float32) for i in range(20)})
    assert len(str(caught.value)) < 400


def test_rotary_tables_are_left_out_without_a_word() -> None:
    model = model_with({ROTARY: np.ones(4), "model.rotary_emb.inv_freq": np.ones(4)})
    assert isinstance(model.tensors.role(ROTARY), Ignored)
    assert model.notes == ()


def test_blocks_after_the_last_one_are_left_out_and_told() -> None:
    more = {n: w for n, w in tiny_weights(tiny_config(), 7).items() if "layers.1." in n}
    model = model_with(more, num_hidden_layers=1)
    assert len(model.notes) == 1
    assert "not read: 'model.layers.1.input_layernorm.weight'" in model.notes[0]
    assert "and 6 more tensors (config.json counts 1 layers)" in model.notes[0]


def test_a_tied_head_that_is_stored_must_be_the_embedding() -> None:
    table = tiny_weights(tiny_config(), 7)[EMBEDDING]
    same = model_with({HEAD: table.copy()}, tie_word_embeddings=True)
    np.testing.assert_array_equal(
        same.logits(IDS), tiny_model(tie_word_embeddings=True).logits(IDS)
    )
    assert same.notes == ()
    for other in (table + np.float32(1e-3), table[:-1]):
        with pytest.raises(UnsupportedModelError, match="tie_word_embeddings to false"):
            model_with({HEAD: other}, tie_word_embeddings=True)


def write(folder: Path, change: Any, **config: Any) -> Path:
    tiny.write_model(folder, **config)
    weights = tiny.tensors(tiny.CONFIG | config, seed=71)
    save_file(change(weights), folder / "model.safetensors")
    return folder


def test_a_tied_head_alone_is_read_in_place_of_the_embedding(tmp_path: Path) -> None:
    def head_only(weights: Weights) -> Weights:
        return {HEAD if name == EMBEDDING else name: w for name, w in weights.items()}

    usual = lrc.load(tiny.write_model(tmp_path / "usual"))
    loaded = lrc.load(write(tmp_path / "head", head_only))
    assert loaded.source.names() == usual.source.names()
    np.testing.assert_array_equal(loaded.model.logits(IDS), usual.model.logits(IDS))
    assert "lm_head.weight, which is tied to it, is read in its place" in loaded.model.notes[0]
    again = load_model(loaded.model.source)  # a view of a view
    np.testing.assert_array_equal(again.logits(IDS), usual.model.logits(IDS))


@pytest.mark.parametrize(
    ("rename", "prefix"),
    [
        (lambda name: f"language_model.{name}", "language_model.model."),
        (lambda name: name.replace("model.", "model.language_model."), "model.language_model."),
        (lambda name: name.removeprefix("model."), ""),
    ],
)
@pytest.mark.parametrize("tied", [True, False])
def test_names_with_another_prefix_are_named(
    tmp_path: Path, rename: Any, prefix: str, tied: bool
) -> None:
    def renamed(weights: Weights) -> Weights:
        return {rename(name): w for name, w in weights.items()}

    model = write(tmp_path / "model", renamed, tie_word_embeddings=tied)
    with pytest.raises(FormatError, match=f"with the prefix '{re.escape(prefix)}' where"):
        lrc.load(model)


@pytest.mark.parametrize("dtype", [np.float16, np.int8])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_the_dtype_of_every_tensor_is_checked_on_opening(
    tmp_path: Path, name: str, dtype: Any
) -> None:
    model = write(tmp_path / "model", lambda w: w | {name: w[name].astype(dtype)})
    if dtype == np.float16:
        lrc.load(model)
        return
    with pytest.raises(FormatError, match=rf"'{name}' .* stored as I8"):
        lrc.load(model)


def test_what_is_not_read_does_not_count(tmp_path: Path) -> None:
    extra = {
        HEAD: tiny.tensors(tiny.CONFIG, seed=71)[EMBEDDING],
        ROTARY: np.ones(6, np.float32),
        "model.layers.0.self_attn.rotary_emb.cos_cached": np.ones(6, np.int64),
        "model.layers.2.mlp.up_proj.weight": np.ones((4, 4), np.float32),
    }
    model, source = open_original(write(tmp_path / "model", lambda w: w | extra))
    assert source.names() == tuple(sorted(tiny.tensors(tiny.CONFIG, seed=71)))
    assert len(model.tensors.matrices) == len(linear_weights(source)) == 14


def test_the_index_may_name_only_what_is_not_read(tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path / "model")
    names = [*tiny.tensors(tiny.CONFIG, seed=71), HEAD, ROTARY]
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    tiny._json(
        folder / "model.safetensors.index.json",
        {"weight_map": dict.fromkeys(names, "model-1.safetensors")},
    )
    assert lrc.load(folder).model.notes == ()
    tiny._json(
        folder / "model.safetensors.index.json",
        {"weight_map": dict.fromkeys([*names, "lm.extra"], "model-1.safetensors")},
    )
    assert HEAD not in lrc.load(folder).source.names()
    edited = tiny.tensors(tiny.CONFIG, seed=71)
    del edited["model.layers.1.mlp.up_proj.weight"]
    save_file(edited, folder / "model-1.safetensors")
    with pytest.raises(FormatError, match=r"puts 'model\.layers\.1\.mlp\.up_proj\.weight' in"):
        lrc.load(folder)
