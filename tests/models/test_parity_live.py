"""Logits equal those that transformers computes here, where the extra ``parity`` is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_whisper
import whisper_cases
from audio_cases import RATE, noise
from model_families import CASES, FAMILIES, Case
from random_weights import random_weights

import lrc as library
from lrc.audio.mel import FrontEnd, log_mel
from lrc.convert.hf import export_hf
from lrc.errors import LrcError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models import declared, load_model
from lrc.models.speech import SpeechModel

pytest.importorskip("torch")
pytest.importorskip("transformers")

#: Mixed configurations of each family that are tried.
TRIED = 8


def theirs(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and logits."""
    from make_parity_golden import compute

    _, ids, logits = compute(case, seed)
    return ids, logits


def assert_same(got: np.ndarray, logits: np.ndarray, what: object = "") -> None:
    assert np.abs(got - logits).max() < 1e-4 * np.abs(logits).max(), what


@pytest.mark.parametrize("case", whisper_cases.CASES.values(), ids=whisper_cases.CASES)
@pytest.mark.parametrize("seed", [7, 8])
def test_logits_about_speech_are_those_of_transformers(case: whisper_cases.Case, seed: int) -> None:
    from make_whisper_golden import compute

    ids, logits = compute(case, seed)
    model = case.model(seed)
    assert_same(model.logits(ids, model.listen(case.features(seed + 2), ids.shape[1])), logits)


def test_an_export_of_a_speech_model_is_read_by_transformers(tmp_path: Path) -> None:
    """From audio to logits."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    out = export_hf(tiny_whisper.write_model(tmp_path / "dense"), tmp_path / "out")
    audio, ids = noise(0.8, 4), np.random.default_rng(6).integers(0, 256, (1, 12))
    extractor = WhisperFeatureExtractor.from_pretrained(out)
    features = extractor(audio, sampling_rate=RATE, return_tensors="pt").input_features
    model = WhisperForConditionalGeneration.from_pretrained(
        out, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        logits = model.eval()(features, decoder_input_ids=torch.from_numpy(ids)).logits.numpy()
    ours = library.load(out).model
    assert isinstance(ours, SpeechModel)
    assert_same(ours.logits(ids, ours.listen(log_mel(audio, FrontEnd(80, 1))[None], 12)), logits)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("seed", [7, 8])
def test_logits_are_those_of_transformers(case: Case, seed: int) -> None:
    """On weights that no golden file was made of."""
    ids, logits = theirs(case, seed)
    assert_same(case.model(seed).logits(ids), logits)


def mixed(family: str, rng: np.random.Generator) -> dict[str, Any]:
    """The configuration of one case, in which some keys are as in another, or absent as there."""
    rows = [dict(case.config) for case in FAMILIES[family].values()]
    config = dict(rows[rng.integers(len(rows))])
    for key in sorted({key for row in rows for key in row}):
        other = rows[rng.integers(len(rows))]
        if rng.random() < 0.4:
            config.pop(key, None)
            config |= {key: other[key]} if key in other else {}
    return config


@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_configurations_mean_what_they_mean_there(family: str) -> None:
    """Where both sides accept one; a refusal is one of ours, never a traceback."""
    from huggingface_hub.errors import StrictDataclassError

    refusals = (
        ValueError, KeyError, TypeError, IndexError, RuntimeError, ArithmeticError,
        StrictDataclassError,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    accepted = 0
    for seed in range(TRIED):
        case = Case(mixed(family, rng), Path(family))
        try:
            case.source(seed)
        except LrcError:
            continue
        try:
            ids, logits = theirs(case, seed)
        except refusals:
            continue
        assert_same(case.model(seed).logits(ids), logits, case.config)
        accepted += 1
    assert accepted


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_is_read_by_transformers(family: str, tmp_path: Path) -> None:
    """Whatever the layout in which it holds matrices."""
    import torch
    from make_parity_golden import read

    case = next(iter(FAMILIES[family].values()))
    config = case.changed(vocab_size=258, bos_token_id=256, eos_token_id=257)
    weights = random_weights(declared(config), 5)
    dense = tiny.write_directory(tmp_path / "dense", config, weights)
    out = export_hf(dense, tmp_path / "out")
    model, _ = read(out, "text_config" in config)
    ids = np.random.default_rng(6).integers(0, 256, (1, 40))
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(ids)).logits.numpy()
    assert_same(library.load(out).model.logits(ids), logits)


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe"])
@pytest.mark.parametrize("apart", [True, False])
def test_experts_are_read_as_transformers_saves_them(
    family: str, apart: bool, tmp_path: Path
) -> None:
    """One by one, as models are released, or those of a block together."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**next(iter(FAMILIES[family].values())).config)
    theirs = AutoModelForCausalLM.from_config(config).float().eval()
    theirs.save_pretrained(tmp_path, save_original_format=apart)
    ids = np.random.default_rng(3).integers(0, config.vocab_size, (2, 16))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).logits.numpy()
    source = Checkpoint.open(tmp_path)
    assert any(len(source.shape(name)) == 3 for name in source.names()) != apart
    got = load_model(source).logits(ids)
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()
