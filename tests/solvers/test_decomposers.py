"""Laws of every decomposer in ``DECOMPOSERS``; a new one inherits them by joining the table."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from budget import few
from codebook_cases import KINDS, ROWWISE, may_group
from hypothesis import given
from hypothesis import strategies as st
from packed_cases import codes_of

from lrc.errors import NumericalError, SpecError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.parts.packed import matrix_record, matrix_tensors, read_matrix
from lrc.solvers.api import DECOMPOSERS, decompose, derive_seed, metric_for
from lrc.solvers.base import Problem
from lrc.spec import DecomposeSpec, LowRankSpec, QuantSpec
from lrc.testing.laws import check_decomposition
from lrc.testing.strategies import problems

F32 = np.float32
every = pytest.mark.parametrize("recipe", DECOMPOSERS)


def spec_for(recipe, **changes):
    """A cheap spec of a recipe; low rank alone needs a rank."""
    base = {
        "low_rank": LowRankSpec(rank=2, factor_bits=4),
        "iterations": 2,
        "inner_iterations": 2,
        "polish_sweeps": 2,
    }
    return DecomposeSpec(recipe=recipe, **(base | changes))


@st.composite
def specs(draw, recipe):
    codebook, bits = draw(st.sampled_from(KINDS))
    group_size = may_group(codebook, draw(st.sampled_from([0, 5])))
    return spec_for(
        recipe,
        quant=QuantSpec(codebook, bits, group_size),
        low_rank=LowRankSpec(draw(st.integers(1, 4)), draw(st.sampled_from([2, 4, 16]))),
        rotation=draw(st.sampled_from(["none", "hadamard"])),
        damping=draw(st.sampled_from([0.0, 0.01])),
        iterations=draw(st.integers(1, 2)),
    )


def same(a, b):
    """Equal to the last stored bit."""
    ours, theirs = (matrix_tensors("x", d.matrix) for d in (a, b))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor, theirs[name], err_msg=name)
    assert a.relative_error == b.relative_error
    assert a.trace == b.trace
    assert a.notes == b.notes


@every
@few(4)
@given(data=st.data())
def test_laws_of_one_decomposition(recipe, data):
    W, H = data.draw(problems(max_m=16, max_n=20))
    spec = data.draw(specs(recipe))
    before = W.copy(), H.copy()
    found = decompose(W, H, spec, threads=1)
    check_decomposition(W, H, spec, found)
    np.testing.assert_array_equal(W, before[0])
    np.testing.assert_array_equal(H, before[1])


@every
@few(4)
@given(data=st.data())
def test_laws_hold_for_degenerate_moments(recipe, data):
    W, H = data.draw(problems(max_m=12, max_n=16, degenerate=True))
    spec = data.draw(specs(recipe))
    found = decompose(W, H, spec, threads=1)
    check_decomposition(W, H, spec, found)
    raised = found.damping > spec.damping
    assert raised == any(note.startswith("damping raised") for note in found.notes)


@every
def test_a_moment_indefinite_by_rounding_is_damped_until_it_factors_and_says_so(recipe):
    rng = np.random.default_rng(7301)
    V = np.linalg.qr(rng.standard_normal((16, 16)))[0]
    H = (V * np.where(np.arange(16) < 15, 1.0, -1.5e-6)) @ V.T
    W = rng.standard_normal((8, 16)).astype(F32)
    found = decompose(W, 0.5 * (H + H.T), spec_for(recipe, damping=0.0), threads=1)
    assert np.isfinite(found.to_dense()).all()
    assert found.damping == pytest.approx(1e-5)
    assert "damping raised 2 times to 1.0e-05" in found.notes


@every
@pytest.mark.parametrize("least", [-0.5, -1e-4])
def test_errors_are_never_measured_with_an_indefinite_or_asymmetric_moment(recipe, least):
    W = np.random.default_rng(7311).standard_normal((8, 16)).astype(F32)
    H = np.diag(np.where(np.arange(16) == 3, least, 1.0))
    with pytest.raises(NumericalError, match=f"H has the eigenvalue {least:.1e}"):
        decompose(W, H, spec_for(recipe))
    with pytest.raises(NumericalError, match="H differs from its transpose"):
        decompose(W, np.eye(16) + np.eye(16, k=1), spec_for(recipe))
    metric = metric_for(np.eye(16), None, spec_for(recipe), site="x", block_size=8)
    problem = Problem(W, dataclasses.replace(metric, H=H.astype(F32) - F32(0.6)), spec_for(recipe))
    with pytest.raises(NumericalError, match="not positive semidefinite"):
        problem.error(np.ones((8, 16), F32), 1.0)


@every
@few(8)
@given(data=st.data(), p=st.integers(-6, 6), q=st.integers(-6, 6))
def test_scaling_weights_scales_the_gain_and_scaling_h_nothing(recipe, data, p, q):
    W, H = data.draw(problems(max_m=10, max_n=16))
    spec = data.draw(specs(recipe))
    found = decompose(W, H, spec, threads=1)
    scaled = decompose(F32(2.0**p) * W, 4.0**q * H, spec, threads=1)
    assert scaled.matrix.gain == 2.0**p * found.matrix.gain
    ours, theirs = (matrix_tensors("x", d.matrix) for d in (found, scaled))
    for name in ours.keys() - {"x.gain"}:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert scaled.relative_error == found.relative_error


@pytest.mark.parametrize("key", ROWWISE, ids=str)
@pytest.mark.parametrize("recipe", ["ldlq", "round-to-nearest", "caldera"])
def test_rows_move_with_the_rows_of_w_without_rotation(recipe, key):
    """Dyadic weights and no polishing: row sums come out alike in any order."""
    rng = np.random.default_rng(7303)
    W = (rng.integers(-40, 41, (9, 24)) / 16).astype(F32)
    order = rng.permutation(9)
    spec = spec_for(
        recipe, quant=QuantSpec(*key), rotation="none", polish_sweeps=0, low_rank=LowRankSpec(0)
    )
    found, moved = (decompose(X, np.eye(24), spec, threads=1) for X in (W, W[order]))
    planes = codes_of(found.matrix).planes, codes_of(moved.matrix).planes
    for plane, other in zip(*planes, strict=True):
        np.testing.assert_array_equal(plane[order], other)
    np.testing.assert_array_equal(found.to_dense()[order], moved.to_dense())


@every
@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_threads_never_change_a_bit_and_the_seed_does(recipe, rotation):
    rng = np.random.default_rng(7305)
    W = rng.standard_normal((280, 16)).astype(F32)  # more than one chunk of rows
    z = rng.standard_normal((40, 16)) * np.geomspace(3, 0.1, 16)
    H = z.T @ z / 40
    spec = spec_for(recipe, rotation=rotation, iterations=1)
    found = decompose(W, H, spec, threads=1)
    same(found, decompose(W, H, spec, threads=2))
    other = decompose(W, H, spec_for(recipe, rotation=rotation, iterations=1, seed=91), threads=1)
    if rotation == "hadamard":
        assert (other.matrix.signs_in != found.matrix.signs_in).any()
        assert (other.matrix.signs_out != found.matrix.signs_out).any()


@every
@few(8)
@given(data=st.data())
def test_what_is_stored_is_what_comes_back(recipe, data, tmp_path_factory):
    W, H = data.draw(problems(max_m=10, max_n=20))
    found = decompose(W, H, data.draw(specs(recipe)), threads=1).matrix
    path = tmp_path_factory.mktemp("matrix") / "x.safetensors"
    write_safetensors(path, matrix_tensors("x", found), {})
    back = read_matrix(SafetensorsFile(path), "x", matrix_record(found))
    np.testing.assert_array_equal(back.to_dense(), found.to_dense())
    assert back.stored_bits == found.stored_bits
    stored = sum(t.nbytes for t in matrix_tensors("x", found).values())
    assert found.stored_bits == 8 * stored


@every
def test_no_moment_means_the_identity_and_float64_is_taken(recipe):
    W = np.random.default_rng(7307).standard_normal((6, 12)).astype(F32)
    spec = spec_for(recipe)
    found = decompose(W, None, spec)
    same(found, decompose(W, np.eye(12), spec))
    same(found, decompose(W.astype(np.float64), np.eye(12, dtype=F32), spec))
    same(found, decompose(np.asfortranarray(W), None, spec))
    same(found, decompose(W.tolist(), np.eye(12).tolist(), spec))
    whole = np.rint(8 * W)
    same(
        decompose(whole, None, spec), decompose(whole.astype(np.int32), np.eye(12, dtype=int), spec)
    )


@every
@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_zeros_stay_zeros(recipe, rotation):
    spec = spec_for(recipe, rotation=rotation)
    found = decompose(np.zeros((5, 9), F32), np.eye(9), spec)
    np.testing.assert_array_equal(found.to_dense(), 0.0)
    assert found.relative_error == 0.0
    dead = decompose(np.ones((5, 9), F32), np.zeros((9, 9)), spec)
    assert np.isfinite(dead.to_dense()).all()


@every
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_tiny_matrices(recipe, shape, rotation):
    W = np.random.default_rng(7309).standard_normal(shape).astype(F32)
    spec = spec_for(recipe, rotation=rotation)
    check_decomposition(W, np.eye(shape[1]), spec, decompose(W, None, spec))


@every
def test_bad_arguments_are_refused(recipe):
    spec, W = spec_for(recipe), np.ones((3, 4), F32)
    for bad in (np.ones(4, F32), np.ones((0, 4), F32), np.ones((2, 3, 4), F32)):
        with pytest.raises(SpecError, match="expected a matrix"):
            decompose(bad, None, spec)
    with pytest.raises(SpecError, match=r"needs \(4, 4\)"):
        decompose(W, np.eye(3), spec)
    for bad in (W * 1j, W > 0, [[1.0], [2.0, 3.0]], [["x"]]):
        with pytest.raises(SpecError, match=r"W (has dtype|is no array)"):
            decompose(bad, None, spec)
        with pytest.raises(SpecError, match=r"H (has dtype|is no array)"):
            decompose(W, bad, spec)
    with pytest.raises(SpecError, match="threads=0"):
        decompose(W, None, spec, threads=0)
    for bad in (np.nan, np.inf):
        broken = W.copy()
        broken[1, 2] = bad
        with pytest.raises(NumericalError, match=r"W .*not finite"):
            decompose(broken, None, spec)
        H = np.eye(4)
        H[1, 1] = bad
        with pytest.raises(NumericalError, match="not finite"):
            decompose(W, H, spec)


@pytest.mark.parametrize("rank", ["auto", 0])
def test_low_rank_alone_needs_a_rank(rank):
    spec = spec_for("low-rank", low_rank=LowRankSpec(rank))
    with pytest.raises(SpecError, match="rank of at least 1"):
        decompose(np.ones((3, 4), F32), None, spec)


def test_what_a_shape_cannot_take_is_noted():
    lattice = spec_for("ldlq", quant=QuantSpec("e8p"))
    found = decompose(np.ones((5, 13), F32), None, lattice)
    assert "output side 5 is rotated in blocks of 1" in found.notes
    assert "input side 13 is rotated in blocks of 1" in found.notes
    assert "13 columns padded to 16 for codebook e8p" in found.notes
    assert decompose(np.ones((8, 16), F32), None, lattice).notes == ()
    assert decompose(np.ones((256, 16), F32), None, spec_for("ldlq")).notes == ()


def test_derived_seeds_depend_on_every_part():
    found = {
        derive_seed(5, "a"),
        derive_seed(6, "a"),
        derive_seed(5, "b"),
        derive_seed(5, "a", "b"),
    }
    assert len(found) == 4
    assert derive_seed(5, "site", "in") == 2097981887


@every
def test_a_moment_of_the_outputs_lowers_the_loss_that_it_weighs(recipe):
    """On average; and W itself, not its errors, decides where nothing looks at errors."""
    m, n, ratios = 96, 32, []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        W = rng.standard_normal((m, n)).astype(F32)
        H, A = (
            (Q * np.exp(-8.0 * np.arange(k) / k)) @ Q.T + 0.01 * np.eye(k)
            for k, Q in ((k, np.linalg.qr(rng.standard_normal((k, k)))[0]) for k in (n, m))
        )
        losses = []
        for outputs in (None, A):
            E = W - decompose(W, H, spec_for(recipe), outputs=outputs, threads=1).to_dense()
            losses.append(np.trace(A @ E @ H @ E.T))
        ratios.append(losses[1] / losses[0])
    if recipe == "round-to-nearest":
        assert ratios == [1.0] * 4
    else:
        assert np.mean(ratios) < 0.96


def test_a_moment_of_the_outputs_has_the_size_of_the_rows():
    W = np.ones((8, 16), F32)
    with pytest.raises(SpecError, match=r"outputs has shape \(16, 16\); W with 8 rows needs"):
        decompose(W, outputs=np.eye(16))
