"""A compressed model is scored in the arithmetic that generation runs it in."""

from __future__ import annotations

import numpy as np
import pytest
from packed_models import packed_model
from tiny_llama import tiny_model

from lrc.errors import SpecError
from lrc.measure.evaluate import comparison, evaluation, perplexity
from lrc.measure.scoring import score_windows
from lrc.run.generate import Decoder

WINDOWS = np.random.default_rng(7).integers(0, 48, (3, 20))


@pytest.fixture(scope="module", params=["lattice", "trellis"])
def packed(request):
    codebook = ("e8p", 2) if request.param == "lattice" else ("trellis12", 2)
    changes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    return packed_model(changes, codebook=codebook)


def losses(model, first):
    """-log p of each target, by decoding as generation does."""
    found = []
    for window in WINDOWS:
        decoder = Decoder(model, len(window), 1, "i8")
        logits = decoder.advance(window[:first])
        for token in window[first:]:
            values = logits.astype(np.float64)
            found.append(np.log(np.exp(values - values.max()).sum()) + values.max() - values[token])
            logits = decoder.advance(np.array([token]))
    return np.array(found).reshape(len(WINDOWS), -1)


@pytest.mark.parametrize(("score", "first"), [("second-half", 10), ("all", 1)])
def test_integers_are_scored_as_they_are_decoded(packed, score, first):
    (scores,) = score_windows([packed], WINDOWS, score)
    assert scores.activations == "i8"
    np.testing.assert_allclose(scores.loss, losses(packed, first), rtol=1e-5)
    exact = score_windows([packed], WINDOWS, score, activations="f32")[0]
    assert exact.activations == "f32"
    # Random models are touchy: a tenth of a percent can turn a saturated attention over.
    differences = np.abs(exact.loss - scores.loss)
    assert differences.max() > 1e-4
    assert np.median(differences) < 0.3


def test_threads_and_parts_change_nothing(packed, monkeypatch):
    one = perplexity(packed, WINDOWS, against=tiny_model(), threads=1)
    assert one == perplexity(packed, WINDOWS, against=tiny_model(), threads=2)
    monkeypatch.setattr("lrc.measure.scoring.ROWS", 3)
    monkeypatch.setattr("lrc.measure.scoring.WINDOWS", 1)
    again = perplexity(packed, WINDOWS, against=tiny_model())
    assert again.perplexity == pytest.approx(one.perplexity, rel=1e-9)
    assert one.activations == "i8"


def test_dense_models_are_scored_on_floats_and_say_so(packed):
    assert perplexity(tiny_model(), WINDOWS).activations == "f32"
    a, b = score_windows([packed, tiny_model()], WINDOWS)
    assert (a.activations, b.activations) == ("i8", "f32")
    both = comparison(a, b)
    assert (both.activations, both.other_activations) == ("i8", "f32")
    assert evaluation(a.first(2)).activations == "i8"
    with pytest.raises(SpecError, match="activations='i4' must be one of i8, i15, f32"):
        perplexity(tiny_model(), WINDOWS, activations="i4")
    with pytest.raises(SpecError, match="300 tokens exceed the model's context of 256"):
        perplexity(packed, np.zeros((1, 300), np.int64))
