"""Evaluation against its definitions in float64, and its laws."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tiny import tokenizer
from tiny_llama import tiny_model

import lrc.measure.scoring
from lrc.errors import CalibrationError, SpecError
from lrc.measure.evaluate import perplexity, text_windows
from lrc.run.text import Tokenizer

WINDOWS = np.random.default_rng(23).integers(0, 48, (5, 18))


class Table:
    """A model whose logits depend on the last token alone."""

    def __init__(self, logits):
        self.logits = logits.astype(np.float32)

    def hidden(self, ids):
        return np.asarray(ids, np.float32)[..., None]

    def head(self, h):
        return self.logits[h[..., 0].astype(int)]


def table(seed, scale=2.0):
    return Table(np.random.default_rng(seed).normal(0, scale, (48, 48)))


def log_probabilities(model, windows, first):
    """(N, tokens, V) float64."""
    logits = model.logits[windows[:, first - 1 : -1]].astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_uniform_logits_have_the_vocabulary_as_perplexity():
    found = perplexity(Table(np.full((48, 48), 3.0)), WINDOWS)
    assert found.perplexity == pytest.approx(48, rel=1e-12)
    assert found.perplexity_stderr == pytest.approx(0, abs=1e-9)
    assert (found.kl_divergence, found.kl_stderr, found.top1_agreement) == (None, None, None)


@pytest.mark.parametrize(("score", "first"), [("second-half", 9), ("all", 1)])
def test_figures_are_their_definitions(score, first):
    model, other = table(5), table(6)
    found = perplexity(model, WINDOWS, score, against=other)
    p, q = (log_probabilities(m, WINDOWS, first) for m in (model, other))
    targets = WINDOWS[:, first:, None]
    loss, other_loss = (-np.take_along_axis(x, targets, 2)[..., 0] for x in (p, q))
    divergence = (np.exp(q) * (q - p)).sum(-1)
    assert found.tokens == loss.size
    assert found.perplexity == pytest.approx(np.exp(loss.mean()), rel=1e-6)
    assert found.against_perplexity == pytest.approx(np.exp(other_loss.mean()), rel=1e-6)
    assert found.kl_divergence == pytest.approx(divergence.mean(), rel=1e-6)
    assert found.top1_agreement == (p.argmax(-1) == q.argmax(-1)).mean()
    spread = np.std(loss.mean(1), ddof=1) / np.sqrt(5)
    assert found.perplexity_stderr == pytest.approx(found.perplexity * spread, rel=1e-5)
    assert found.kl_stderr == pytest.approx(np.std(divergence.mean(1), ddof=1) / 5**0.5, rel=1e-5)


def test_many_rows_are_scored_in_parts(monkeypatch):
    whole = perplexity(table(5), WINDOWS, against=table(6))
    monkeypatch.setattr(lrc.measure.scoring, "ROWS", 4)
    parts = perplexity(table(5), WINDOWS, against=table(6))
    assert parts == whole


@settings(max_examples=20)
@given(st.integers(2, 2**32 - 1), st.sampled_from([0.1, 3.0, 300.0]))
def test_divergence_is_zero_to_oneself_and_never_below(seed, scale):
    model, other = table(seed, scale), table(seed + 1, scale)
    same = perplexity(model, WINDOWS, against=model)
    assert (same.kl_divergence, same.top1_agreement) == (0, 1)
    assert same.against_perplexity == same.perplexity
    different = perplexity(model, WINDOWS, against=other)
    assert different.kl_divergence > 0
    shifted = perplexity(Table(model.logits + 5), WINDOWS, against=model)
    assert shifted.kl_divergence == pytest.approx(0, abs=1e-5 * max(scale, 1))


def test_a_model_is_scored_on_full_forwards_and_threads_change_nothing():
    model, other = tiny_model(3), tiny_model(4)
    one = perplexity(model, WINDOWS, against=other, threads=1)
    two = perplexity(model, WINDOWS, against=other, threads=2)
    assert one == two
    logits = model.logits(WINDOWS)[:, 8:-1].astype(np.float64)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    loss = -np.take_along_axis(logits, WINDOWS[:, 9:, None], 2)
    assert one.perplexity == pytest.approx(np.exp(loss.mean()), rel=1e-5)


def test_a_single_window_takes_its_error_from_tokens():
    found = perplexity(table(5), WINDOWS[:1])
    loss = -np.take_along_axis(log_probabilities(table(5), WINDOWS, 9), WINDOWS[:, 9:, None], 2)[0]
    spread = np.std(loss, ddof=1) / 3
    assert found.perplexity_stderr == pytest.approx(found.perplexity * spread, rel=1e-5)


@pytest.mark.parametrize("shape", [(0, 8), (3, 1), (8,)])
def test_windows_that_cannot_be_scored_are_refused(shape):
    with pytest.raises(SpecError, match="cannot be scored"):
        perplexity(table(5), np.zeros(shape, np.int32))


def test_unknown_scores_and_other_vocabularies_are_refused():
    with pytest.raises(SpecError, match="'first-half' is unknown; use one of second-half, all"):
        perplexity(table(5), WINDOWS, "first-half")
    with pytest.raises(SpecError, match="48 and 49 entries"):
        perplexity(table(5), WINDOWS, against=Table(np.zeros((48, 49))))


def test_text_windows_are_the_text_without_bos():
    made = Tokenizer(tokenizer(), (257,), 256)
    windows = text_windows(made, "abcdefgh" * 4, 10, 2)
    assert windows.shape == (2, 10)
    assert made.decode(windows.reshape(-1), skip_special=False) == ("abcdefgh" * 3)[:20]
    assert text_windows(made, "abcdefgh" * 4, 10).shape == (3, 10)
    with pytest.raises(CalibrationError, match="has 8 tokens and one window needs 10"):
        text_windows(made, "abcdefgh", 10)
