"""Blocks that share a basis: what is solved, stored once, read, run and gone on with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from packed_golden import drop, put

from lrc.convert.hf import export_hf
from lrc.errors import FormatError, LrcError, SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.measure.storage import storage
from lrc.models import load_model
from lrc.nn.engine.team import Team
from lrc.parts.low_rank import LowRank
from lrc.parts.on_basis import OnBasis
from lrc.parts.packed import MANIFEST, PackedCheckpoint
from lrc.pipeline import compress as compress_module
from lrc.pipeline.bases import shared_basis
from lrc.pipeline.compress import compress
from lrc.pipeline.verify import verify
from lrc.recipes import with_recipe
from lrc.refine.tunables import find_tunables
from lrc.run.load import load
from lrc.solvers.api import decompose_at_site, metric_for
from lrc.solvers.base import Basis
from lrc.spec import AllocationSpec, CompressSpec, DecomposeSpec, LowRankSpec
from lrc.testing.tolerance import assert_within, relative_difference

WINDOWS = np.random.default_rng(17).integers(0, 256, (6, 32))
BLOCKS = 5  # two groups, and a block that is left over
SHARING = (*(f"self_attn.{k}_proj" for k in "qkv"), "mlp.gate_proj", "mlp.up_proj")


def sharing(keep: float = 0.7, **changes: object) -> CompressSpec:
    spec = with_recipe("basis-sharing", CompressSpec())
    low_rank = dataclasses.replace(spec.decompose.low_rank, keep=keep)
    solve = dataclasses.replace(spec.decompose, low_rank=low_rank)
    return dataclasses.replace(spec, decompose=solve, **changes)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense") / "model"
    return tiny.write_model(folder, num_hidden_layers=BLOCKS)


@pytest.fixture(scope="module")
def shared(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shared") / "model"
    compress(dense, out, sharing(), windows=WINDOWS, threads=1)
    return out


# The solution


@given(
    seed=st.integers(0, 10**6),
    blocks=st.integers(2, 4),
    m=st.integers(3, 12),
    n=st.integers(4, 12),
)
def test_a_basis_is_the_published_solution(seed: int, blocks: int, m: int, n: int) -> None:
    """Basis Sharing: S S^T = sum of H, svd([W_1; ...] S), cut, and back by S^-1."""
    rng = np.random.default_rng(seed)
    Ws = [rng.standard_normal((m, n)).astype(np.float32) for _ in range(blocks)]
    Xs = [rng.standard_normal((3 * n, n)) @ rng.standard_normal((n, n)) for _ in range(blocks)]
    H, rank = sum(X.T @ X / len(X) for X in Xs), min(3, n)
    S = np.linalg.cholesky(H)
    stack = np.concatenate(Ws).astype(np.float64)
    s = np.linalg.svd(stack @ S, compute_uv=False)
    best = np.square(s[rank:]).sum()
    R = shared_basis(Ws, H, rank, 1).astype(np.float64)
    assert R.shape == (rank, n)
    L = np.linalg.lstsq(S.T @ R.T, (stack @ S).T, rcond=None)[0].T
    ours = np.square((stack - L @ R) @ S).sum()
    assert_within(abs(ours - best), 1e-5 * np.square(s).sum(), "loss on the basis")


def test_coefficients_are_the_best_for_their_own_inputs() -> None:
    rng = np.random.default_rng(19)
    W, R = (rng.standard_normal(shape).astype(np.float32) for shape in ((10, 12), (4, 12)))
    X = rng.standard_normal((60, 12)) @ rng.standard_normal((12, 12))
    H = X.T @ X / len(X)
    spec = DecomposeSpec("low-rank", low_rank=LowRankSpec(4, 16), rotation="none")
    metric = metric_for(H.copy(), None, spec, site="s", block_size=1)
    own = decompose_at_site(W, metric, spec, name="b", basis=Basis(R, "a"), threads=1)
    (part,) = own.matrix.parts
    assert isinstance(part, OnBasis)
    assert part.basis == "a"
    L = np.linalg.lstsq(X @ R.T, X @ W.T, rcond=None)[0].T
    assert_within(relative_difference(own.matrix.to_dense() @ X.T, L @ R @ X.T), 2e-3)
    (held,) = decompose_at_site(
        2 * W, metric, spec, name="a", basis=Basis(R, "a"), threads=1
    ).matrix.parts
    assert type(held) is LowRank
    np.testing.assert_array_equal(held.right.words, part.right.words)


# The directory


def test_groups_share_what_is_stored_once(shared: Path) -> None:
    found = PackedCheckpoint.open(shared)
    records = found.report["matrices"]
    for block in range(BLOCKS):
        for key in (*SHARING, "self_attn.o_proj", "mlp.down_proj"):
            name = f"model.layers.{block}.{key}.weight"
            (part,) = records[name]["parts"]
            if key not in SHARING or block % 2 == 0:
                assert part["kind"] == "low_rank"
                continue
            holder = f"model.layers.{block - 1}.{key}.weight"
            assert (part["kind"], part["basis"]) == ("on_basis", holder)
            mine, theirs = (found.linear(of).parts[0].right.words for of in (name, holder))
            np.testing.assert_array_equal(mine, theirs)
            assert not mine.flags.owndata  # a view of the file of the other
    assert found.basis_holders == {
        f"model.layers.{block}.{key}.weight" for block in (0, 2) for key in SHARING
    }
    assert storage(found)["bits_per_weight_linear"] <= 0.7 * 16 + 1
    numbers = [
        sum(np.prod(a.shape) for a in found.linear(name).parts[0].tensors().values())
        for block in (0, 1)
        for name in [f"model.layers.{block}.mlp.up_proj.weight"]
    ]
    assert 0.66 < sum(numbers) / (2 * 48 * 88) <= 0.7
    assert not list(shared.glob("unfinished*"))


def test_it_is_verified_and_exported(shared: Path, dense: Path, tmp_path: Path) -> None:
    assert verify(shared, dense).differences == ()
    model, ids = load(shared).model, np.arange(40, 60)[None]
    assert model.engines().decode(Team(1)) is not None
    plain = Checkpoint.open(export_hf(shared, tmp_path / "hf"))
    assert_within(relative_difference(load_model(plain).logits(ids), model.logits(ids)), 2.0**-7)


def test_what_others_share_is_not_tuned(shared: Path) -> None:
    source = PackedCheckpoint.open(shared)
    found = {tunable.key for tunable in find_tunables(source, ("factors",)).tunables}
    name = "model.layers.{}.mlp.up_proj.weight"
    assert {(name.format(block), "left") for block in range(BLOCKS)} <= found
    assert {b for b in range(BLOCKS) if (name.format(b), "right") in found} == {4}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("nowhere", "parts", 0, "basis"), "nowhere.right"),
        (put("model.layers.0.self_attn.q_proj.weight", "parts", 0, "basis"), "implies"),
        (put(7, "parts", 0, "basis"), "not a string"),
        (drop("parts", 0, "basis"), "lacks basis"),
    ],
)
def test_a_basis_that_is_not_there_is_named(shared, tmp_path, change, said) -> None:  # type: ignore[no-untyped-def]
    folder = shutil.copytree(shared, tmp_path / "model")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(manifest["matrices"]["model.layers.1.self_attn.k_proj.weight"])
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(FormatError, match=said):
        PackedCheckpoint.open(folder)


# Going on


@pytest.mark.parametrize("done", [0, 2])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    shared: Path, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    """Behind the walk that finds bases, and among the blocks."""

    class _StopError(Exception):
        """In the middle of the run."""

    real = compress_module.run_blocks

    def stopped(job, inputs, progress):  # type: ignore[no-untyped-def]
        left = [done]

        class Ends(type(job.journal)):  # type: ignore[misc]
            def save(self, folder: Path) -> None:
                super().save(folder)
                left[0] -= 1
                if left[0] < 0:
                    raise _StopError

        job.journal.__class__ = Ends
        real(job, inputs, progress)

    monkeypatch.setattr(compress_module, "run_blocks", stopped)
    with pytest.raises(_StopError):
        compress(dense, tmp_path / "out", sharing(), windows=WINDOWS, threads=1)
    monkeypatch.setattr(compress_module, "run_blocks", real)
    partial = tmp_path / "out.partial"
    kept = {path.name: path.stat().st_mtime_ns for path in partial.glob("unfinished-bases*")}
    assert len(kept) == 6
    compress(dense, tmp_path / "out", sharing(), windows=WINDOWS, threads=1)
    for path in shared.glob("*.safetensors"):
        digests = [hashlib.sha256(p.read_bytes()) for p in (path, tmp_path / "out" / path.name)]
        assert digests[0].digest() == digests[1].digest()


# Options


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"basis_blocks": 0}, "basis_blocks=0 must be at least 1"),
        ({"ranks": "threshold"}, "take ranks equal"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        sharing(**changes)


def test_a_rotation_or_a_target_is_refused(dense: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="take rotation none, not hadamard; take recipe basis-sh"):
        dataclasses.replace(CompressSpec(), decompose=DecomposeSpec("low-rank"), basis_blocks=2)
    with pytest.raises(LrcError):
        compress(dense, tmp_path / "out", sharing(), allocation=AllocationSpec(bits_per_weight=4))
