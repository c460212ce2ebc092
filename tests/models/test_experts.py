"""Mixtures of experts in models: layouts of checkpoints, and what a token reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from model_families import FAMILIES
from numpy.typing import NDArray
from random_weights import MemorySource, random_weights
from safetensors.numpy import save_file

import lrc
from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats.view import stored_shapes
from lrc.models import declared, load_model
from lrc.models.base import Model
from lrc.models.mixtral import KEYS, MixtralConfig

MIXTURES = [name for name in FAMILIES if "mixtral" in name or "moe" in name]
families = pytest.mark.parametrize("family", MIXTURES)
IDS = np.random.default_rng(5).integers(0, 48, (2, 12))
CONFIG = dict(FAMILIES["mixtral"]["plain"].config)


def config_of(family: str) -> dict[str, Any]:
    return dict(next(iter(FAMILIES[family].values())).config)


def stacked(config: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """The weights of `random_weights`, each in the last layout that a family knows."""
    tensors = declared(config)
    own = load_model(MemorySource(config, random_weights(tensors, 3))).source
    views = {name: t.layouts[-1] for name, t in tensors.read.items() if t.layouts}
    made = {name: own.dense(name) for name in tensors.read if name not in views}
    for name, shape in stored_shapes(views, tensors.shape).items():
        made[name] = np.zeros(shape, np.float32)
    for name, view in views.items():
        view.put(own.dense(name), made[view.stored])
    return made


@families
def test_stacked_experts_are_the_same_model(family: str, tmp_path: Path) -> None:
    config = config_of(family)
    usual = load_model(MemorySource(config, random_weights(declared(config), 3)))
    weights = stacked(config)
    assert any(weight.ndim == 3 for weight in weights.values())
    assert not any(".experts.0." in name for name in weights)
    loaded = lrc.load(tiny.write_directory(tmp_path / "model", config, weights))
    assert loaded.source.names() == usual.source.names()
    assert loaded.model.notes == ()
    np.testing.assert_array_equal(loaded.model.logits(IDS), usual.logits(IDS))


@families
def test_stacks_of_other_shapes_are_refused_by_name(family: str, tmp_path: Path) -> None:
    config = config_of(family)
    folder = tiny.write_directory(tmp_path / "model", config, stacked(config))
    for name, weight in stacked(config).items():
        if weight.ndim == 3:
            grown = np.concatenate([weight, weight[:1]])
            save_file({**stacked(config), name: grown}, folder / "model.safetensors")
            with pytest.raises(FormatError, match=name):
                lrc.load(folder)


class Watched:
    """A linear layer that notes the use of its weights."""

    def __init__(self, key: str, linear: Any, used: list[str]) -> None:
        self.key, self.linear, self.used = key, linear, used

    @property
    def shape(self) -> tuple[int, int]:
        return self.linear.shape

    def __call__(self, x: np.ndarray, *how: Any) -> np.ndarray:
        self.used.append(self.key)
        return self.linear(x, *how)


def watched(model: Model) -> list[str]:
    """What the layers of the model's blocks note from now on."""
    used: list[str] = []
    model._blocks = tuple(  # type: ignore[attr-defined]
        block.with_linears({k: Watched(f"{i}.{k}", f, used) for k, f in block.linears.items()})
        for i, block in enumerate(model.blocks)  # type: ignore[attr-defined]
    )
    return used


@families
def test_a_token_reads_the_experts_that_it_is_routed_to(family: str) -> None:
    for case in FAMILIES[family].values():
        model = case.model(5)
        experts = model.config.experts  # type: ignore[attr-defined]
        used = watched(model)
        cache = model.new_cache(1, 8)
        for token in range(8):
            used.clear()
            model.logits(IDS[:1, token : token + 1], cache)
            read = [key for key in used if ".experts." in key]
            with_experts = len(model.stacks[0]) - len(model.config.dense)  # type: ignore[attr-defined]
            assert len(read) == len(set(read)) == 3 * experts.top * with_experts


def test_a_key_about_experts_is_read_or_refused_by_name() -> None:
    experts = MixtralConfig.from_dict(CONFIG).experts
    assert (experts.count, experts.top, experts.normalised) == (4, 2, True)
    assert (experts.names.mixture, experts.shared) == ("block_sparse_moe", 0)
    with pytest.raises(FormatError, match="num_experts_per_tok=5 exceeds"):
        MixtralConfig.from_dict(CONFIG | {"num_experts_per_tok": 5})
    with pytest.raises(FormatError, match="num_local_experts=0"):
        MixtralConfig.from_dict(CONFIG | {"num_local_experts": 0})
    for key in ("shared_expert_intermediate_size", "norm_topk_prob", "num_experts"):
        with pytest.raises(UnsupportedModelError, match=key):
            MixtralConfig.from_dict(CONFIG | {key: 3})
    used, off, harmless = KEYS.used, set(KEYS.off), set(KEYS.harmless)
    assert len(used | off | harmless) == len(used) + len(off) + len(harmless)


def test_the_golden_logits_tell_routings_apart() -> None:
    """Another number of experts a token changes them by far more than parity tolerates."""
    case = FAMILIES["mixtral"]["plain"]
    seed, ids, logits = case.logits()
    for top in (1, 3):
        other = dataclasses.replace(case, config={**case.config, "num_experts_per_tok": top})
        assert np.abs(other.model(seed).logits(ids) - logits).max() > 1e-2 * np.abs(logits).max()
