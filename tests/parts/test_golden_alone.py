"""A model of L R alone, biases and dense matrices decodes for ever to what was written."""

from __future__ import annotations

import json

import numpy as np
from make_golden_alone import FOLDER, fingerprint, stored
from packed_golden import V2

from lrc.models.opened import open_model
from lrc.models.tensors import bias_of
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import PackedCheckpoint
from lrc.run.load import load
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

EXPECTED = json.loads((V2 / "alone.json").read_text(encoding="utf-8"))


def test_golden_tensors_decode_to_what_was_written() -> None:
    found = stored(FOLDER)
    assert {name: fingerprint(of) for name, of in found.items()} == EXPECTED
    with np.load(V2 / "alone.npz") as values:
        for name, of in found.items():
            dense = of.to_dense() if isinstance(of, PackedMatrix) else of
            bound = factor_bound(sum(dense.shape), np.float32)
            assert_within(relative_difference(dense, values[name]), bound, name)


def test_it_has_factors_dense_matrices_and_a_bias_of_each_kind() -> None:
    model = open_model(FOLDER)[0]
    opened = PackedCheckpoint.open(FOLDER)
    matrices = [f"{name}.weight" for name in model.tensors.matrices]
    packed = {name for name in matrices if isinstance(opened.linear(name), PackedMatrix)}
    kept = set(matrices) - packed
    assert packed
    assert kept
    assert not kept & set(opened.report["matrices"])
    biases = {bias_of(name.removesuffix(".weight")) for name in packed}
    assert biases == {name for name in opened.names() if name.endswith(".bias")}
    assert all(np.abs(opened.dense(name)).max() > 0 for name in biases)


def test_the_golden_model_runs_with_its_biases() -> None:
    model = load(FOLDER).model
    logits = model.logits(np.arange(40, 48)[None])
    assert np.isfinite(logits).all()
    linears = model.stacks[0].load_block(0).linears
    assert sum(getattr(of, "bias", None) is not None for of in linears.values()) == sum(
        name.endswith(".bias") for name in EXPECTED
    )
