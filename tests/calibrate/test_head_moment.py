"""The second moment of what the head multiplies is that of the model's own final states."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

import lrc.calibrate.head_moment as head_moment_module
from lrc.base.progress import SILENT
from lrc.calibrate.head_moment import before_head, head_moment
from lrc.calibrate.streams import window_chunks
from lrc.calibrate.table_options import TableOptions
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models import load_model
from lrc.nn.ops import STREAM, Pass, run
from lrc.spec import CompressSpec, DecomposeSpec


@pytest.fixture
def model(tmp_path):
    return load_model(Checkpoint.open(tiny.write_model(tmp_path / "model")))


def final_states(model, ids):
    ops, source = before_head(model.stacks[-1].tail())
    values = run(ops, {STREAM: model.hidden(ids)}, Pass(np.arange(0)))
    return values[source].reshape(-1, model.hidden_size).astype(np.float64)


def test_it_is_that_of_the_final_states(model):
    ids = np.random.default_rng(3).integers(0, model.vocab_size, (6, 20))
    x = final_states(model, ids)
    moment = head_moment(model, (window_chunks(ids),), 2, SILENT)
    np.testing.assert_allclose(moment.matrix(), x.T @ x / len(x), rtol=1e-4, atol=1e-6)


def test_of_many_windows_some_are_drawn_evenly(model, monkeypatch):
    monkeypatch.setattr(head_moment_module, "LEAST_TOKENS", 60)
    monkeypatch.setattr(head_moment_module, "TOKENS_A_CHANNEL", 0)
    ids = np.random.default_rng(4).integers(0, model.vocab_size, (9, 20))
    chunks = [ids[:2], ids[2:3], ids[3:7], ids[7:]]
    x = final_states(model, ids[[0, 3, 6]])
    moment = head_moment(model, (chunks,), 1, SILENT)
    np.testing.assert_allclose(moment.matrix(), x.T @ x / len(x), rtol=1e-4, atol=1e-6)


def test_recipes_that_look_at_no_inputs_round_every_weight_alone(model):
    spec = CompressSpec(decompose=DecomposeSpec(recipe="round-to-nearest", rotation="none"))
    name = next(iter(model.tensors.tables.values()))
    assert "metric" not in TableOptions.of(model, ((),), spec, 1, SILENT)[name]


def test_the_table_that_is_multiplied_has_the_metric(model):
    ids = np.random.default_rng(5).integers(0, model.vocab_size, (4, 20))
    found = TableOptions.of(model, (window_chunks(ids),), CompressSpec(), 1, SILENT)
    name = next(iter(model.tensors.tables.values()))
    assert found[name]["metric"].H.shape == (model.hidden_size, model.hidden_size)
    assert found[name]["rotation"] == "hadamard"
