"""The prompt engine computes what the blocks compute, however the work is shared and cut."""

import numpy as np
import pytest
from engine_checks import assert_close
from packed_models import packed_model

from lrc.base.progress import SILENT
from lrc.errors import SpecError
from lrc.nn.engine import prompt as prompt_engine
from lrc.nn.engine import prompt_program
from lrc.nn.engine.team import Team
from lrc.run.generate import Decoder
from lrc_kernels.cpu.engine import prompt as prompt_kernel
from lrc_kernels.simd import paths as simd_paths

IDS = np.random.default_rng(37).integers(0, 48, 43)
TRELLIS = {"codebook": ("trellis12", 2)}
WIDER = {"hidden_size": 96, "intermediate_size": 272, "num_key_value_heads": 2}

CASES = [
    ({}, {"codebook": ("trellis8", 2)}),
    ({"num_key_value_heads": 2, "intermediate_size": 64}, {"codebook": ("trellis16", 3)}),
    ({"num_key_value_heads": 1, "head_dim": 64}, TRELLIS | {"row_scales": False}),
    ({"num_key_value_heads": 1, "head_dim": 64}, TRELLIS | {"rotation": "hadamard-real"}),
    ({"head_dim": 12, "attention_bias": True, "mlp_bias": True}, TRELLIS | {"rank": 3}),
    (WIDER | {"tie_word_embeddings": True}, {"codebook": ("trellis12", 4), "rank": 0}),
    ({"hidden_size": 576, "intermediate_size": 304}, TRELLIS | {"rotation": "none"}),
    ({"intermediate_size": 768, "head_dim": 48}, TRELLIS | {"factor_bits": 16}),
]


@pytest.fixture(autouse=True)
def _engine_on_every_path(monkeypatch):
    """On the generic path BLAS is faster, and the engine is only there for tests."""
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])


def model_of(changes, options):
    return packed_model({"intermediate_size": 64} | changes, **options)


def kept(cache):
    return np.stack([a for layer in cache.layers for a in (layer.keys, layer.values)])


def run(model, threads, ends=(43,)):
    """Last outputs after each of the stretches that end there, then all keys and values."""
    engine, cache = model.engines().prompt(Team(threads)), model.new_cache(1, len(IDS))
    start, found = 0, []
    for end in ends:
        found.append(engine.advance(model.embed(IDS[start:end]), cache).copy())
        start = end
    assert cache.length == len(IDS)
    return found[-1], kept(cache)


@pytest.mark.parametrize(("changes", "options"), CASES, ids=str)
def test_a_prompt_equals_the_blocks(changes, options):
    model = model_of(changes, options)
    cache = model.new_cache(1, len(IDS))
    expected = model.hidden(IDS[None], cache)[0, -1]
    last, seen = run(model, 1)
    assert_close(last[None], expected[None])
    assert_close(seen, kept(cache))


def test_any_number_of_threads_gives_the_same_bits():
    model = model_of(WIDER, TRELLIS)
    one = run(model, 1)
    for threads in (2, 3, 5):
        for a, b in zip(one, run(model, threads), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("chunk", [1, 6, 42])
def test_prompts_may_be_cut_anywhere(chunk, monkeypatch):
    model = model_of({}, TRELLIS)
    whole = run(model, 1)
    by_hand = run(model, 1, (1, 7, 20, 43))
    monkeypatch.setattr(prompt_engine, "CHUNK", chunk)
    for a, b, c in zip(whole, by_hand, run(model, 2), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("head", [(("uniform", 8), 64), (("uniform", 8), 0), None], ids=str)
@pytest.mark.parametrize("length", [3, 13, 40])
def test_decoders_agree(length, head):
    model = packed_model({"intermediate_size": 64}, table=head, **TRELLIS)
    exact, fast = (Decoder(model, len(IDS), 1, kind) for kind in ("f32", "i8"))
    for part in (IDS[:length], IDS[length:]):
        assert_close(fast.advance(part)[None], exact.advance(part)[None])


def test_the_first_use_announces_compilation(monkeypatch):
    notes = []

    class Progress(type(SILENT)):
        def note(self, text):
            notes.append(text)

    model = model_of({}, TRELLIS)
    engine = model.engines().prompt(Team(1))
    for compiled in (True, False):
        monkeypatch.setattr(prompt_kernel, "is_compiled", lambda known=compiled: known)
        engine.advance(model.embed(IDS), model.new_cache(1, 43), Progress())
    assert len(notes) == 1
    assert "compiling" in notes[0]


def test_a_cache_that_does_not_fit_is_refused():
    model = model_of({}, TRELLIS)
    engine, rows = model.engines().prompt(Team(1)), model.embed(IDS)
    with pytest.raises(SpecError, match="43 are needed"):
        engine.advance(rows, model.new_cache(1, 42))
    with pytest.raises(SpecError, match="2 sequences"):
        engine.advance(rows, model.new_cache(2, 43))


def test_other_codebooks_and_the_generic_path_go_without(monkeypatch):
    assert packed_model(codebook=("e8p", 2)).engines().prompt(Team(1)) is None
    monkeypatch.setattr(prompt_program, "path", lambda: "generic")
    assert model_of({}, TRELLIS).engines().prompt(Team(1)) is None
