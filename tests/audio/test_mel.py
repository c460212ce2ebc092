"""Features equal those of Hugging Face transformers, from files written once with it."""

import json

import numpy as np
import pytest
from audio_cases import CASES, FOLDER, RATE, chirp, kept
from hypothesis import given
from hypothesis import strategies as st

from lrc.audio.front_end import front_end
from lrc.audio.mel import FrontEnd, audio_windows, log_mel, mel_filters

TOLERANCE = 1e-4  # values lie within 2 of each other; the reference computes in float32
SMALL = FrontEnd(80, 1)
cases = pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES)


@cases
def test_features_match_transformers(name, case):
    golden = np.load(FOLDER / f"{name}.npz")
    front = front_end(json.loads((FOLDER / f"{name}.json").read_text()))
    assert front == FrontEnd(case.mels, case.seconds)
    features = log_mel(case.audio, front)
    assert features.dtype == np.float32
    assert features.shape == tuple(golden["shape"]) == (front.mels, front.frames)
    assert np.abs(kept(features) - golden["frames"]).max() < TOLERANCE
    assert abs(features.mean(dtype=np.float64) - golden["mean"]) < TOLERANCE


def test_the_golden_cases_tell_apart():
    """Another window function, or frames moved by one, differ by far more than the tolerance."""
    case = CASES["chirp"]
    golden = np.load(FOLDER / "chirp.npz")["frames"]
    moved = log_mel(np.roll(case.audio, 160), FrontEnd(80, 30))
    assert np.abs(kept(moved) - golden).max() > 100 * TOLERANCE


@given(st.floats(0.1, 1e3))
def test_loudness_moves_features_by_its_logarithm(gain):
    audio = chirp(1.0)
    plain, louder = (log_mel((audio * g).astype(np.float32), SMALL) for g in (1.0, gain))
    assert np.abs(louder - plain - 0.5 * np.log10(gain)).max() < TOLERANCE


def test_features_span_eight_decades_at_most():
    features = log_mel(chirp(0.5), SMALL)
    assert features.max() - features.min() == pytest.approx(2.0, abs=1e-6)


def test_the_loudest_band_is_the_one_of_a_tone():
    for hertz in (200.0, 1000.0, 5000.0):
        tone = np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32)
        band = log_mel(tone, SMALL)[:, 50].argmax()
        filters = mel_filters(80)
        assert filters[band, round(hertz / 40)] == filters[:, round(hertz / 40)].max()


@pytest.mark.parametrize("mels", [80, 128])
def test_filters_have_an_area_of_one_hertz(mels):
    """The wide ones: narrow triangles fall between the bins of the transform."""
    area = mel_filters(mels)[-20:].sum(axis=1) * 40.0
    assert np.abs(area - 1).max() < 0.02


@given(st.integers(1, 50_000))
def test_windows_are_all_of_the_audio(count):
    samples = np.arange(count, dtype=np.float32)
    windows = audio_windows(samples, SMALL)
    assert np.array_equal(np.concatenate(windows), samples)
    assert {len(w) for w in windows[:-1]} <= {RATE}
    assert 1 <= len(windows[-1]) <= RATE
