"""Spectra of weights, inputs and outputs: against SVDs of what they are of."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import tiny_model

from lrc.allocation.spectra import Spectrum, effective_rank, rank_of, spectra
from lrc.calibrate.examples import TextExamples
from lrc.cli import rank_charts
from lrc.cli.page import page, svg
from lrc.testing.tolerance import factor_bound

MODEL = tiny_model(num_hidden_layers=2)


@pytest.fixture(scope="module")
def found():
    windows = np.random.default_rng(3).integers(0, MODEL.vocab_size, (6, 16))
    return spectra(MODEL, TextExamples(windows), 1)


def test_every_matrix_has_one_and_values_fall(found):
    assert {of.name for of in found} == set(MODEL.tensors.matrices)
    for of in found:
        m, n = of.shape
        assert [len(v) for v in (of.weights, of.inputs, of.outputs)] == [min(m, n), n, min(m, n)]
        for values in (of.weights, of.inputs, of.outputs):
            assert (np.diff(values) <= 0).all()
            assert values[-1] >= 0
        assert 0 < of.loss_at_half < 1


def test_they_are_the_singular_values(found):
    block = MODEL.stacks[0].load_block(0)
    h = MODEL.stacks[0].start(np.random.default_rng(3).integers(0, MODEL.vocab_size, (6, 16)))
    x = block.enter({"h": h}, _plain_pass(16))[block.layers_of(0).source]
    x = x.reshape(-1, x.shape[-1]).astype(np.float64)
    of = next(s for s in found if s.name.endswith("0.self_attn.q_proj"))
    W = block.linears["self_attn.q_proj"].weight.astype(np.float64)
    for ours, matrix in (
        (of.weights, W),
        (of.inputs, x / np.sqrt(len(x))),
        (of.outputs, x @ W.T / np.sqrt(len(x))),
    ):
        expected = np.linalg.svd(matrix, compute_uv=False)[: len(ours)]
        # Roots of eigenvalues, of moments summed in float32.
        bound = np.sqrt(factor_bound(len(W), np.float32)) * expected[0]
        np.testing.assert_allclose(ours[: len(expected)], expected, atol=bound)


def _plain_pass(length):
    from lrc.nn.ops import Pass

    return Pass(np.arange(length))


@given(rank=st.integers(1, 20), more=st.integers(0, 20))
def test_ranks_of_values_that_are_alike(rank, more):
    values = np.concatenate((np.full(rank, 3.0), np.zeros(more)))
    assert effective_rank(values) == pytest.approx(rank)
    assert rank_of(values) == int(np.ceil(0.95 * rank - 1e-9))
    assert effective_rank(0 * values) == rank_of(0 * values) == 0


def test_the_loss_at_half_is_that_of_the_best_low_rank_matrix():
    rng = np.random.default_rng(5)
    W = rng.standard_normal((8, 24))
    s = np.linalg.svd(W, compute_uv=False)
    U, _, Vt = np.linalg.svd(W)
    rank = 8 * 24 // (2 * 32)
    best = (U[:, :rank] * s[:rank]) @ Vt[:rank]
    expected = np.linalg.norm(W - best) / np.linalg.norm(W)
    assert Spectrum("x", 0, (8, 24), s, np.ones(24), s).loss_at_half == pytest.approx(expected)


def test_the_command_tells_and_draws(lrc, model, text, tmp_path, monkeypatch):
    options = ("--calib", text, "--nsamples", 2, "--quiet")
    lines = lrc("ranks", model, *options).check().out.splitlines()
    assert lines[0].split("  ")[0] == "matrix"
    assert "first third of the blocks" in lines[-1]
    record = lrc("ranks", model, *options, "--json").check().json
    one = next(iter(record.values()))
    assert set(one["singular_values"]) == {"weights", "inputs", "outputs"}
    assert json.dumps(record)
    monkeypatch.setattr(page.importlib.util, "find_spec", lambda name: None)
    refused = lrc("ranks", model, *options, "--chart", tmp_path)
    assert refused.code == 1
    assert "install the extra" in refused.err


def test_pictures_are_drawn_in_the_style_of_a_report(found, tmp_path):
    pytest.importorskip("jinja2")
    kinds = {of.name.rsplit(".", 1)[-1] for of in found}
    paths = rank_charts.draw(found, tmp_path / "pictures")
    assert [p.name for p in paths] == ["spectra-weights.svg", "spectra-outputs.svg", "depth.svg"]
    for path in paths:
        picture = ElementTree.fromstring(path.read_text("utf-8"))
        named = picture.findall(".//{*}polyline/{*}title")
        assert {title.text for title in named} == kinds
        assert "--ink" in svg.STYLE
        assert "--" not in path.read_text("utf-8"), "variables, which only browsers know"
        assert ".l0 { stroke: #0072b2; }" in path.read_text("utf-8")
