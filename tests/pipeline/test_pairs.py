"""Blocks that are made narrower inside: closed forms, what is stored, and what still runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from recipe_runs import divergence, random_dense

from lrc.errors import SpecError
from lrc.models.opened import open_model
from lrc.nn.ops import Rotate
from lrc.nn.rope import Rope
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.compress import compress
from lrc.pipeline.pairs import (
    Pairs,
    head_values,
    hidden_units,
    pairs_of,
    queries_and_keys,
    refitted,
)
from lrc.pipeline.verify import verify
from lrc.recipes import with_recipe
from lrc.spec import CompressSpec
from lrc.testing.tolerance import assert_within, relative_difference

Lrc = Callable[..., Any]
WINDOWS = np.random.default_rng(23).integers(0, 256, (6, 32))


def moment(rng: np.random.Generator, n: int) -> Any:
    X = rng.standard_normal((5 * n, n)) @ rng.standard_normal((n, n)) * np.geomspace(3, 0.2, n)
    return X, X.T @ X / len(X)


def whole(cut: Any, shape: tuple[int, int]) -> Any:
    found = np.zeros(shape)
    if cut.side == "rows":
        found[cut.places] = cut.values
    else:
        found[:, cut.places] = cut.values.T
    return found


# Closed forms


def test_values_and_outputs_have_the_joint_optimum() -> None:
    """MoDeGPT, type III: svd(W_v H^(1/2)) = U s V^T, then svd(W_o U s), cut, head by head."""
    rng = np.random.default_rng(29)
    (X, H), pairs = moment(rng, 10), Pairs(heads=2, kv_heads=2, head_dim=4)
    V, W = (rng.standard_normal(shape).astype(np.float32) for shape in ((8, 10), (7, 8)))
    losses = {}
    for joint in (True, False):
        v, o = head_values(V, W, H, pairs, 2, joint=joint, seed=1)
        small = whole(o, W.shape) @ whole(v, V.shape)
        for head in range(2):
            at = slice(4 * head, 4 * head + 4)
            mine = whole(o, W.shape)[:, at] @ whole(v, V.shape)[at]
            losses[joint, head] = np.square(X @ (W[:, at] @ V[at] - mine).T).sum() / len(X)
        assert np.isfinite(small).all()
    root = np.linalg.cholesky(H)
    for head in range(2):
        at = slice(4 * head, 4 * head + 4)
        U, s, _ = np.linalg.svd(V[at] @ root, full_matrices=False)
        best = np.square(np.linalg.svd(W[:, at] @ U * s, compute_uv=False)[2:]).sum()
        assert_within(abs(losses[True, head] - best), 1e-6 * (1 + best), "loss of the pair")
        assert losses[False, head] > best


def test_principal_channels_are_shared_by_the_queries_of_a_group() -> None:
    rng = np.random.default_rng(31)
    (_, H), pairs = moment(rng, 9), Pairs(heads=4, kv_heads=2, head_dim=3)
    V, W = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 9), (5, 12)))
    v, o = head_values(V, W, H, pairs, 2, joint=False, seed=1)
    for head in range(4):
        own = V[3 * (head // 2) : 3 * (head // 2) + 3].astype(np.float64)
        basis = np.linalg.eigh(own @ H @ own.T)[1][:, 1:]
        columns = whole(o, W.shape)[:, 3 * head : 3 * head + 3]
        mine = columns @ whole(v, V.shape)[3 * (head // 2) : 3 * (head // 2) + 3]
        published = W[:, 3 * head : 3 * head + 3] @ basis @ basis.T @ own
        np.testing.assert_allclose(mine, published, atol=1e-8)


def test_units_are_those_of_the_most_leverage_and_refitted() -> None:
    rng = np.random.default_rng(37)
    X, C = moment(rng, 12)
    W = rng.standard_normal((5, 12)).astype(np.float32)
    places = hidden_units(C, 7)
    ridge = np.trace(C) / 12
    leverage = np.diag(C @ np.linalg.inv(C + ridge * np.eye(12)))
    assert set(places) == set(np.argsort(leverage)[-7:])
    cut = whole(refitted(W, C, places), W.shape)
    best = np.linalg.lstsq(X[:, places], X @ W.T, rcond=None)[0].T
    np.testing.assert_allclose(cut[:, places], best, atol=1e-7)


@pytest.mark.parametrize("interleaved", [False, True])
def test_what_is_rotated_together_is_kept_together(interleaved: bool) -> None:
    rng = np.random.default_rng(41)
    turned = Rotate("q", Rope(6, interleaved=interleaved), 6)
    (_, H), pairs = moment(rng, 8), Pairs(heads=2, kv_heads=1, head_dim=6, rotated=turned)
    Q, K = (rng.standard_normal((m, 8)).astype(np.float32) for m in (12, 6))
    q, k = queries_and_keys(Q, K, H, pairs, 0.7)
    assert len(k.places) == 4
    np.testing.assert_array_equal(q.places, [*k.places, *(k.places + 6)])
    other = {0: 1, 1: 0, 2: 3, 3: 2, 4: 5, 5: 4} if interleaved else dict(enumerate((3, 4, 5, 0, 1, 2)))  # fmt: skip  # noqa: E501
    assert {other[int(p)] for p in k.places} == set(k.places)
    np.testing.assert_array_equal(k.values, K[k.places])


# Models


def narrow(name: str, keep: float) -> CompressSpec:
    spec = with_recipe(name, CompressSpec())
    low_rank = dataclasses.replace(spec.decompose.low_rank, keep=keep)
    return dataclasses.replace(
        spec, decompose=dataclasses.replace(spec.decompose, low_rank=low_rank)
    )


@pytest.mark.parametrize("name", ["modegpt", "flat-llm"])
def test_a_model_keeps_its_part_and_is_verified(name: str, tmp_path: Path) -> None:
    dense, out = tiny.write_model(tmp_path / "model"), tmp_path / "out"
    compress(dense, out, narrow(name, 0.7), windows=WINDOWS, threads=1)
    assert verify(out, dense).differences == ()
    found = PackedCheckpoint.open(out)
    model = open_model(out)[0]
    kept = total = 0
    kinds = set()
    for matrix in model.tensors.matrices:
        tensor, shape = f"{matrix}.weight", found.shape(f"{matrix}.weight")
        record = found.report["matrices"].get(tensor)
        if record is None:
            assert name == "flat-llm"
            assert matrix.endswith(("q_proj", "k_proj"))
            kept += int(np.prod(shape))
        else:
            (part,) = record["parts"]
            kinds.add(part["kind"])
            kept += part["count"] * shape[1 if part["side"] == "rows" else 0]
        total += int(np.prod(shape))
    assert kinds == {"kept"}
    assert 0.6 < kept / total <= 0.7
    assert np.isfinite(model.logits(WINDOWS[:1])).all()


@pytest.mark.parametrize("name", ["modegpt", "flat-llm"])
def test_all_channels_are_the_model_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every channel stays, what is changed is the basis, and the rounding to 16 bits."""
    monkeypatch.setattr("lrc.pipeline.narrow._LEAST", 1.0)
    dense, out = tiny.write_model(tmp_path / "model"), tmp_path / "out"
    compress(dense, out, narrow(name, 0.7), windows=WINDOWS, threads=1)
    expected = open_model(dense)[0].logits(WINDOWS[:2])
    found = open_model(out)[0].logits(WINDOWS[:2])
    assert_within(relative_difference(found, expected), 2.0**-7)


def test_pairs_beat_matrices_that_are_cut_one_by_one(lrc: Lrc, tmp_path: Path) -> None:
    found = {
        name: divergence(lrc, tmp_path / name, "--recipe", name, "--keep", "0.7")
        for name in ("modegpt", "svd-llm")
    }
    assert found["modegpt"] < found["svd-llm"]


@pytest.mark.parametrize(
    ("family", "has_values", "has_queries", "has_hidden"),
    [
        ("llama", True, True, True),
        ("qwen3", True, False, True),
        ("gpt2", False, False, True),
        ("mixtral", True, True, False),
        ("mamba", False, False, False),
    ],
)
def test_operations_say_what_is_a_pair(
    family: str, has_values: bool, has_queries: bool, has_hidden: bool, tmp_path: Path
) -> None:
    block = open_model(random_dense(family, tmp_path))[0].stacks[0].load_block(0)
    found = pairs_of(block)
    assert bool(found.values and found.outputs) == has_values
    assert bool(found.queries and found.keys) == has_queries
    assert bool(found.hidden and found.second) == has_hidden


def test_a_part_has_to_be_given(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="take streams original"):
        dataclasses.replace(narrow("modegpt", 0.5), calibration=CompressSpec().calibration)
