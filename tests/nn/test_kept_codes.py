"""Keys and values in few bits: close to what they stand for, and the same on every path."""

from __future__ import annotations

import numpy as np
import pytest
from engine_checks import assert_close
from model_families import FAMILIES
from packed_models import packed_model
from tiny_llama import tiny_model

from lrc.errors import SpecError
from lrc.nn.cache import SPARE, KVCache
from lrc.nn.engine import prompt_program
from lrc.nn.kept_codes import GROUP, decode, encode
from lrc.run.generate import Decoder, generate
from lrc.run.sampler import Sampler
from lrc.run.streams import BATCHED, Streams
from lrc_kernels.rotate import hadamard_transform
from lrc_kernels.simd import paths as simd_paths

both_widths = pytest.mark.parametrize("bits", [8, 4])
SHAPES = {
    32: {"head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2},
    64: {"head_dim": 64, "num_attention_heads": 2, "num_key_value_heads": 1},
    96: {"head_dim": 96, "num_attention_heads": 2, "num_key_value_heads": 2},
}


def rows_of(*shape):
    """Rows of which one channel is large, as keys have them, and one row of zeros."""
    rows = np.random.default_rng(3).normal(0, 1, shape).astype(np.float32)
    rows[..., 5] *= 30
    rows[..., 0, :] = 0
    return rows


@both_widths
@pytest.mark.parametrize("dim", SHAPES)
def test_a_code_is_half_a_step_away_in_the_rotated_basis(bits, dim):
    rows = rows_of(2, 3, 9, dim)
    codes, scales = encode(rows, bits)
    assert codes.nbytes * 8 == rows.size * bits
    assert scales.shape == (2, 3, 9, dim // GROUP)
    found = decode(codes, scales, bits)
    apart = hadamard_transform(found - rows).reshape(*scales.shape, GROUP)
    assert (np.abs(apart) <= scales[..., None] * 0.501 + 1e-5).all()
    assert not found[..., 0, :].any()
    np.testing.assert_allclose(encode(found, bits)[1], scales, rtol=1e-4, atol=1e-6)


@both_widths
@pytest.mark.parametrize("window", [0, 5])
def test_a_cache_gives_what_its_codes_stand_for(bits, window):
    """Also where a window slides, and after tokens were taken back."""
    coded = KVCache(1, 1, 2, 4 * SPARE, 32, [window]).coded(bits)
    plain = KVCache(1, 1, 2, 4 * SPARE, 32, [window])
    assert coded.nbytes < plain.nbytes / (3.5 if bits == 8 else 6)
    for tokens in (3, 1, SPARE - 2, 4, SPARE + 40, 7, 1):
        k, v = rows_of(1, tokens, 2, 32), rows_of(1, tokens, 2, 32)[..., ::-1]
        found = coded.append(0, k, v, window)
        expected = plain.append(0, *(decode(*encode(x, bits), bits) for x in (k, v)), window)
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-4)
        coded.advance(tokens)
        plain.advance(tokens)
        if not window:
            for cache in (coded, plain):
                cache.rewind(cache.length - 1)


def logits_of(model, ids, activations, bits):
    """A prompt, single tokens, a few together, single ones again."""
    decoder = Decoder(model, 128, 1, activations, kv_bits=bits)
    found = [decoder.advance(ids[:40])[None].copy()]
    found += [decoder.advance(ids[i : i + 1])[None].copy() for i in range(40, 44)]
    found.append(decoder.advance_each(ids[44:54]).copy())
    found += [decoder.advance(ids[i : i + 1])[None].copy() for i in range(54, 56)]
    return np.concatenate(found)


@both_widths
@pytest.mark.parametrize("dim", SHAPES)
def test_compiled_loops_give_what_blocks_give(monkeypatch, bits, dim):
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])
    changes = {"hidden_size": 64, "intermediate_size": 64, **SHAPES[dim]}
    model = packed_model(changes, codebook=("shuffle12", 2))
    ids = np.random.default_rng(4).integers(0, 48, 60)
    found, expected = (logits_of(model, ids, kind, bits) for kind in ("i15", "f32"))
    # A code that is rounded the other way is a step away.
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert np.median(errors) < 2.0**-6
    assert errors.max() < 2.0**-2
    plain = logits_of(model, ids, "f32", 0)
    away = np.linalg.norm(expected - plain, axis=1) / np.linalg.norm(plain, axis=1)
    assert np.median(errors) < np.median(away)


@both_widths
def test_texts_advanced_together_read_their_codes(monkeypatch, bits):
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])
    changes = {"hidden_size": 64, "intermediate_size": 64, **SHAPES[32]}
    model = packed_model(changes, codebook=("shuffle12", 2))
    steps = []
    for batch in (True, False):
        streams = Streams(model, BATCHED, 40, activations="i15", batch=batch, kv_bits=bits)
        for i, stream in enumerate(streams.streams):
            stream.read([1, 7, 30, i, 5])
        steps.append(np.stack([x.copy() for x in streams.step(streams.streams, [3] * BATCHED)]))
    assert_close(*steps, 2.0**-3)


@both_widths
def test_a_text_is_the_same_read_ahead_or_not(bits):
    model = tiny_model(seed=19, **SHAPES[32])
    prompt = [1, 2, 3, 1, 2, 3, 1, 2, 3]
    for sampler in (Sampler(), Sampler(temperature=0.5)):
        plain = list(generate(model, prompt, 30, sampler, kv_bits=bits))
        assert list(generate(model, prompt, 30, sampler, kv_bits=bits, lookup=8)) == plain


def test_what_has_no_codes_is_refused():
    with pytest.raises(SpecError, match="kv_bits=5 must be 8 or 4"):
        generate(tiny_model(**SHAPES[32]), [1], 3, kv_bits=5)
    with pytest.raises(SpecError, match="multiples of 32"):
        generate(tiny_model(), [1], 3, kv_bits=8)
    mamba = next(iter(FAMILIES["mamba"].values())).model(1)
    with pytest.raises(SpecError, match="keeps no keys and values"):
        generate(mamba, [1], 3, kv_bits=8)
    with pytest.raises(SpecError, match="carries states that cannot be"):
        generate(mamba, [1], 3, lookup=8)
