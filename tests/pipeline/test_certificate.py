"""`lrc verify --original` on held-out text: errors of outputs, their standard errors, theory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrc
from lrc.cli.sample_text import help_topics_text
from lrc.models.opened import open_model, open_original
from lrc.pipeline.certificate import held_out_windows, ratio_of
from lrc.run.text import Tokenizer

Lrc = Callable[..., Any]


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_the_standard_error_is_that_of_leaving_windows_out(seed: int, count: int) -> None:
    """The jackknife and the linearized ratio agree to the order of what both neglect."""
    rng = np.random.default_rng(seed)
    bottom = rng.uniform(90, 110, count)
    sums = np.stack([bottom * rng.uniform(0.009, 0.011, count), bottom], axis=1)
    error, stderr = ratio_of(sums)
    left_out = [ratio_of(np.delete(sums, i, 0))[0] for i in range(count)]
    jackknife = (count - 1) * np.std(left_out, ddof=1) / np.sqrt(count)
    assert error == pytest.approx(np.sqrt(sums[:, 0].sum() / sums[:, 1].sum()))
    assert stderr == pytest.approx(jackknife, rel=0.1)


def test_errors_without_a_spread_or_without_tokens_say_so() -> None:
    assert ratio_of(np.array([[1.0, 4.0]])) == (0.5, None)
    assert ratio_of(np.zeros((3, 2))) == (None, None)
    assert ratio_of(np.array([[0.0, 1.0], [0.0, 2.0]])) == (0.0, 0.0)


def test_the_error_of_outputs_is_that_of_the_inputs_of_the_original(
    packed: Path, model: Path
) -> None:
    """Of the first site, whose inputs are normed embeddings, it is computed here by hand."""
    text = help_topics_text()
    found = lrc.verify(packed, model, text=text).certificate
    assert found is not None
    dense, checkpoint = open_original(model)
    _, stored = open_model(packed)
    name = "model.layers.0.self_attn.q_proj.weight"
    windows = held_out_windows(dense, Tokenizer.open(packed), text)
    h = checkpoint.dense("model.embed_tokens.weight")[windows].astype(np.float64)
    h /= np.sqrt((h**2).mean(axis=-1, keepdims=True) + checkpoint.config["rms_norm_eps"])
    x = (h * checkpoint.dense("model.layers.0.input_layernorm.weight")).reshape(-1, h.shape[-1])
    W = checkpoint.dense(name)
    E = W - stored.dense(name)
    error = found.matrices[name]
    assert error.relative_error == pytest.approx(
        np.linalg.norm(x @ E.T) / np.linalg.norm(x @ W.T), rel=1e-5
    )
    # On what a uniform quantizer of as many bits would do there, theory is above it.
    assert error.stderr is not None
    assert error.theory is not None
    assert 0 < error.stderr < error.relative_error < error.theory


def test_every_matrix_of_the_blocks_has_its_line_and_its_entry(
    lrc: Lrc, packed: Path, model: Path
) -> None:
    said = lrc("verify", packed, "--original", model).check().out.splitlines()
    assert "held-out text" in said[0]
    assert "theory there" in said[0]
    found = lrc("verify", packed, "--original", model, "--json").check().json["certificate"]
    names = list(json.loads((packed / "lrc.json").read_text())["matrices"])
    assert set(found["matrices"]) == set(names) - {"model.embed_tokens.weight", "lm_head.weight"}
    errors = [of["relative_error"] for of in found["matrices"].values()]
    assert min(errors) < found["whole"]["relative_error"] < max(errors)
    for name in names:
        (line,) = [line for line in said if line.startswith(name)]
        assert ("±" in line) == (name in found["matrices"])
    assert any(line.startswith("all together") for line in said)
    (held_out,) = [line for line in said if line.startswith("held-out text: ")]
    assert f"{found['windows']} windows of {found['window_tokens']} tokens" in held_out


def test_text_that_the_model_was_made_from_is_not_called_held_out(
    lrc: Lrc, packed: Path, model: Path, text: Path
) -> None:
    said = lrc("verify", packed, "--original", model, "--text", text).check().out
    assert f"{text} is text that it was calibrated on: nothing here is held out" in said


def test_text_alone_or_too_little_of_it_is_refused_in_a_line(
    lrc: Lrc, packed: Path, model: Path, tmp_path: Path
) -> None:
    outcome = lrc("verify", packed, "--text", packed / "config.json")
    assert outcome.code == 1
    assert "give --original MODEL as well" in outcome.err
    (short := tmp_path / "short.txt").write_text("Too short.")
    outcome = lrc("verify", packed, "--original", model, "--text", short)
    assert outcome.code == 1
    assert "give more text or a shorter window" in outcome.err


def test_threads_do_not_change_a_figure(packed: Path, model: Path) -> None:
    text = help_topics_text()
    one, two = (lrc.verify(packed, model, text=text, threads=n).certificate for n in (1, 2))
    assert one == two
