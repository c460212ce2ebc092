"""Figures of speech are those of the definition, and utterances are heard as they are said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_whisper
from random_weights import random_weights
from safetensors.numpy import save_file
from scipy.special import log_softmax
from tiny_whisper import EN, NO_TIMESTAMPS, START, TRANSCRIBE

import lrc as library
from lrc.audio.mel import FrontEnd, log_mel
from lrc.audio.resample import read_audio
from lrc.measure.speech import evaluate_speech
from lrc.measure.words import word_errors
from lrc.models import declared
from lrc.models.speech import SpeechModel
from lrc.pipeline.material import SpeechMaterial
from lrc.run.load import LoadedModel
from lrc.run.speech import Speech
from lrc.run.utterances import Heard, hear, read_utterances
from lrc.spec import CalibrationSpec, CompressSpec

PROMPT = (START, EN, TRANSCRIBE, NO_TIMESTAMPS)


def opened(path: Path) -> tuple[SpeechModel, Speech]:
    loaded: LoadedModel = library.load(path)
    assert isinstance(loaded.model, SpeechModel)
    return loaded.model, Speech.open(path, loaded.model, loaded.tokenizer)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper.write_model(tmp_path_factory.mktemp("speech") / "model")


@pytest.fixture(scope="module")
def audio(model: Path) -> Path:
    return tiny_whisper.write_audio(model.parent / "audio")


@pytest.fixture(scope="module")
def heard(model: Path, audio: Path) -> list[Heard]:
    return hear(read_utterances(audio), *opened(model), 1)


def test_an_utterance_is_the_prompt_a_space_the_text_and_its_end(
    audio: Path, heard: list[Heard]
) -> None:
    for one, said in zip(heard, read_utterances(audio), strict=True):
        assert one.ids[0, : one.first].tolist() == list(PROMPT)
        assert one.ids.shape == (1, len(PROMPT) + len(f" {said.text}") + 1)
        assert one.ids[0, -1] == 257
        samples = read_audio(said.audio)
        np.testing.assert_array_equal(one.features[0], log_mel(samples, FrontEnd(80, 1)))
        assert one.seconds == len(samples) / 16000


def logits(model: SpeechModel, one: Heard) -> np.ndarray:
    """Log-probabilities (tokens, vocab) of the text's tokens and the one that ends it."""
    cache = model.listen(one.features, one.ids.shape[1])
    return log_softmax(model.logits(one.ids, cache)[0, one.first - 1 : -1].astype("f8"), axis=1)


def test_figures_are_those_of_the_definition(
    model: Path, audio: Path, heard: list[Heard], tmp_path: Path
) -> None:
    other = tiny_whisper.write_model(tmp_path / "other")
    config = tiny_whisper.CONFIG
    weights = random_weights(declared(config), 5)
    noise = np.random.default_rng(1)
    moved = {
        k: w * (1 + 0.1 * noise.standard_normal(w.shape)).astype("f4") for k, w in weights.items()
    }
    save_file(moved, other / "model.safetensors")
    (mine, speech), (original, _) = opened(other), opened(model)
    utterances = read_utterances(audio)
    found = evaluate_speech(mine, speech, utterances, original, threads=1)
    rows = [(logits(mine, one), logits(original, one), one.ids[0, one.first :]) for one in heard]
    p, q = (np.concatenate([row[i] for row in rows]) for i in (0, 1))
    targets = np.concatenate([row[2] for row in rows])
    places = np.arange(len(targets))
    assert found.tokens == len(targets) == sum(len(u.text) + 2 for u in utterances)
    assert found.perplexity == pytest.approx(np.exp(-p[places, targets].mean()), rel=1e-5)
    assert found.against_perplexity == pytest.approx(np.exp(-q[places, targets].mean()), rel=1e-5)
    divergence = (np.exp(q) * (q - p)).sum(axis=1).mean()
    assert divergence > 1e-3
    assert found.kl_divergence == pytest.approx(divergence, rel=1e-4)
    assert found.top1_agreement == (p.argmax(axis=1) == q.argmax(axis=1)).mean()
    assert found.words == word_errors([u.text for u in utterances], found.transcripts)
    low, high = found.kl_interval
    assert low < found.kl_divergence < high


def test_the_materials_identity_is_of_the_sound(model: Path, tmp_path: Path) -> None:
    audio = tiny_whisper.write_audio(tmp_path)
    spec = CompressSpec(calibration=CalibrationSpec(files=(str(audio),)))
    loaded = library.load(model)
    assert isinstance(loaded.model, SpeechModel)

    def identity() -> list[str | bytes]:
        return list(SpeechMaterial(loaded.model, model, loaded.tokenizer, spec).identity())

    first = identity()
    assert first == identity()
    sound = tmp_path / "2.wav"
    raw = bytearray(sound.read_bytes())
    raw[-1] ^= 1
    sound.write_bytes(raw)
    assert identity() != first
