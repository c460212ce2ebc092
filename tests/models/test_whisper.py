"""Whisper: parity with transformers, and the laws of models over its two stacks."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_weights import MemorySource, random_weights
from whisper_cases import (
    CASES,
    GOLDEN,
    LATEST_FIRST,
    NEW_TOKENS,
    NO_TIMES,
    SUPPRESSED,
    SUPPRESSED_FIRST,
    TIMED_END,
    Case,
)

from lrc.base.threads import single_threaded_blas
from lrc.errors import FormatError, LrcError, SpecError, UnsupportedModelError
from lrc.models import declared, load_model
from lrc.models.speech import SpeechModel
from lrc.models.sweep import sweep
from lrc.models.tensors import EMBEDDING, HEAD
from lrc.models.whisper_config import WhisperConfig
from lrc.nn.memory import MEMORY
from lrc.run.speech import Speech
from lrc.run.speech_tokens import SpeechTokens
from lrc.run.transcribe import Transcriber
from lrc.testing import models as laws
from lrc.testing.tolerance import relative_difference

SEED, TOLERANCE = 11, 1e-4
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def golden(case: Case):
    with np.load(case.golden.with_suffix(".npz")) as file:
        return int(file["seed"]), file["ids"], file["logits"], file["written"]


def worst(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


@cases
def test_logits_match_transformers(case):
    seed, ids, logits, _ = golden(case)
    model = case.model(seed)
    got = model.logits(ids, model.listen(case.features(seed + 2), ids.shape[1]))
    assert got.dtype == np.float32
    assert worst(got, logits) < TOLERANCE


@cases
def test_written_tokens_match_transformers(case):
    seed, _, _, written = golden(case)
    tokens = SpeechTokens(2, (1,), suppressed=SUPPRESSED, suppressed_first=SUPPRESSED_FIRST)
    writer = Transcriber(case.model(seed), Speech(None, tokens, None), 1)  # type: ignore[arg-type]
    for features, expected in zip(case.features(seed + 2), written, strict=True):
        ids, complete = writer.ids(features, (2,))
        said = list(expected[1:])
        if 1 in said:
            assert complete
            assert ids == said[: said.index(1)]
        else:
            assert ids[:NEW_TOKENS] == said


def test_a_token_that_may_not_come_first_may_come_later():
    model, features = CASES["plain"].model(20261), CASES["plain"].features(20263)[0]
    free = Transcriber(model, Speech(None, SpeechTokens(2, (1,)), None), 1)  # type: ignore[arg-type]
    prompt = 2, 8
    usual, _ = free.ids(features, prompt)
    rules = SpeechTokens(2, (1,), suppressed_first=(usual[0],))
    bound = Transcriber(model, Speech(None, rules, None), 1)  # type: ignore[arg-type]
    other, _ = bound.ids(features, prompt)
    assert other[0] != usual[0]
    assert usual[0] in other


def test_a_transcript_is_as_long_as_the_context_at_most():
    case = CASES["plain"]
    never_ends = SpeechTokens(2, (1,), suppressed=(1,))
    writer = Transcriber(case.model(1), Speech(None, never_ends, None), 1)  # type: ignore[arg-type]
    for prompt in ((2,), (2, 8, 9)):
        ids, complete = writer.ids(case.features(1)[0], prompt)
        assert not complete
        assert len(prompt) + len(ids) == case.config["max_target_positions"]


@cases
def test_written_times_match_transformers(case):
    seed, _, _, _ = golden(case)
    with np.load(case.golden.with_suffix(".npz")) as file:
        timed = file["timed"]
    tokens = SpeechTokens(2, (TIMED_END,), no_timestamps=NO_TIMES, latest_first=LATEST_FIRST)
    writer = Transcriber(case.model(seed), Speech(None, tokens, None), 1)  # type: ignore[arg-type]
    for features, expected in zip(case.features(seed + 2), timed, strict=True):
        ids, complete = writer.ids(features, (2,), tokens.times())
        said = list(expected[1:])
        if TIMED_END in said:
            assert complete
            assert ids == said[: said.index(TIMED_END)]
        else:
            assert ids[:NEW_TOKENS] == said
        assert sum(token > NO_TIMES for token in said) > 2


@cases
def test_config_as_transformers_saves_it_reads_the_same(case):
    saved = json.loads(case.golden.with_suffix(".json").read_text())
    assert WhisperConfig.from_dict(saved) == WhisperConfig.from_dict(case.config)


def test_absent_keys_mean_what_they_mean_in_transformers():
    saved = json.loads((GOLDEN / "defaults.json").read_text())
    assert WhisperConfig.from_dict(saved) == WhisperConfig.from_dict({"model_type": "whisper"})


@cases
def test_every_stored_tensor_is_claimed_once(case):
    laws.check_claims(case.model(SEED))


@cases
def test_site_by_site_is_the_whole_block(case):
    model = case.model(SEED)
    encoder, text = model.stacks
    laws.check_sites(encoder, case.features(1))
    memory = model.listen(case.features(1), 1).memory
    laws.check_sites(text, case.ids(1, 2, 9), {MEMORY: memory})


@cases
@settings(max_examples=4)
@given(cuts=st.lists(st.integers(1, 19), unique=True, max_size=5).map(sorted))
def test_cached_is_uncached(case, cuts):
    model, features, ids = case.model(SEED), case.features(2), case.ids(2, 2, 20)
    whole = model.logits(ids, model.listen(features, 20))
    cache = model.listen(features, 20)
    edges = [0, *cuts, 20]
    parts = [model.logits(ids[:, a:b], cache) for a, b in itertools.pairwise(edges)]
    assert relative_difference(np.concatenate(parts, axis=1), whole) < laws.REORDERED


@cases
def test_block_by_block_is_the_forward_pass(case):
    model, features, ids = case.model(SEED), case.features(3, 3), case.ids(3, 3, 12)
    parts = [(features[:2], ids[:2]), (features[2:], ids[2:, :7])]
    with single_threaded_blas():
        whole = [model.hidden(text, model.listen(sound, 12)) for sound, text in parts]
    for threads in (1, 2):
        for expected, swept in zip(whole, sweep(model, parts, threads), strict=True):
            np.testing.assert_array_equal(swept, expected)


@cases
def test_tokens_see_all_of_the_audio_and_no_later_token(case):
    model, features, ids = case.model(SEED), case.features(4), case.ids(4, 2, 10)
    whole = model.logits(ids, model.listen(features, 10))
    later = ids.copy()
    later[:, 6:] = (later[:, 6:] + 1) % model.vocab_size
    seen = model.logits(later, model.listen(features, 10))
    assert relative_difference(seen[:, :6], whole[:, :6]) < laws.REORDERED
    for frame in (0, features.shape[2] - 1):
        other = features.copy()
        other[:, :, frame] += 1
        changed = model.logits(ids, model.listen(other, 10))
        assert (np.abs(changed - whole).max(axis=2) > 1e-6).all()


def test_keys_and_values_of_the_audio_are_made_once(monkeypatch):
    case = CASES["plain"]
    model = case.model(SEED)
    cache = model.listen(case.features(5), 8)
    model.logits(case.ids(5, 2, 3), cache)
    kept = {layer: tuple(map(id, made)) for layer, made in cache.of_memory.items()}
    assert len(kept) == case.config["decoder_layers"]
    cache.memory = np.full_like(cache.memory, np.nan)
    assert np.isfinite(model.logits(case.ids(6, 2, 1), cache)).all()
    assert {layer: tuple(map(id, made)) for layer, made in cache.of_memory.items()} == kept


@cases
def test_tables_can_be_replaced(case):
    _, text = case.model(SEED).stacks
    ids = case.ids(1, 1, 6)
    h = text.start(ids)
    table = np.zeros((case.config["vocab_size"], case.config["d_model"]), np.float32)
    empty = text.with_tables({EMBEDDING: table})
    others = empty.start((ids + 1) % len(table))
    np.testing.assert_array_equal(empty.start(ids), others)
    headless = text.with_tables({EMBEDDING: table, HEAD: table})
    assert not headless.finish(h).any()
    np.testing.assert_array_equal(text.start(ids), h)


def test_a_model_that_hears_says_so_where_text_is_all_it_gets():
    model, ids = CASES["plain"].model(SEED), CASES["plain"].ids(1, 1, 4)
    assert isinstance(model, SpeechModel)
    for use in (
        lambda: model.new_cache(1, 5),
        lambda: model.logits(ids),
        lambda: sweep(model, [ids], 1),
    ):
        with pytest.raises(SpecError, match="audio"):
            use()


def test_features_of_another_length_are_refused():
    model = CASES["plain"].model(SEED)
    with pytest.raises(SpecError, match=r"\(80, 99\).*\(80, 100\)"):
        model.listen(CASES["plain"].features(1)[:, :, :-1], 4)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("d_model", 25),
        ("activation_function", "mish"),
        ("is_encoder_decoder", False),
        ("tie_word_embeddings", 1),
        ("encoder_layers", 0),
        ("decoder_attention_heads", "3"),
        ("quantization_config", {"bits": 4}),
        ("rope_theta", 1e4),
    ],
)
def test_what_is_not_computed_is_refused_by_name(key, value):
    with pytest.raises(LrcError, match=key):
        declared({**CASES["plain"].config, key: value})


def test_a_tensor_that_is_missing_or_unknown_is_refused():
    config = dict(CASES["plain"].config)
    weights = random_weights(declared(config), 1)
    bias = "model.decoder.layers.0.encoder_attn.k_proj.bias"
    with pytest.raises(UnsupportedModelError, match=r"k_proj\.bias"):
        load_model(MemorySource(config, {**weights, bias: np.zeros(24, np.float32)}))
    del weights["model.encoder.conv2.weight"]
    with pytest.raises(FormatError, match="conv2"):
        load_model(MemorySource(config, weights))


def test_a_stored_head_has_to_be_the_embedding_it_is_tied_to():
    config = dict(CASES["plain"].config)
    weights = random_weights(declared(config), 1)
    table = weights["model.decoder.embed_tokens.weight"]
    load_model(MemorySource(config, {**weights, "proj_out.weight": table.copy()}))
    with pytest.raises(UnsupportedModelError, match="differ"):
        load_model(MemorySource(config, {**weights, "proj_out.weight": table + 1}))
