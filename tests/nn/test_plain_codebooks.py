"""Codebooks that no engine reads: their models run on blocks, and write what they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from codebook_cases import EVERY
from packed_models import packed_model
from tiny_llama import MemorySource

from lrc.codebooks import get_codebook
from lrc.models import load_model
from lrc.nn.engine.team import Team
from lrc.parts.matrix import PackedMatrix
from lrc.run.generate import Decoder, generate

PLAIN = [key for key in EVERY if not get_codebook(*key).compiled]
IDS = np.random.default_rng(37).integers(0, 48, 9)
every = pytest.mark.parametrize("codebook", PLAIN, ids=str)


def decoded(model):
    """The same model on the dense matrices that its packed ones stand for."""
    source, config = model.source, model.source.config
    dense = {}
    for name in source.names():
        stored = source.linear(name) if len(source.shape(name)) == 2 else source.dense(name)
        dense[name] = stored.to_dense() if isinstance(stored, PackedMatrix) else stored
    return load_model(MemorySource(config, dense))


@every
@pytest.mark.parametrize("options", [{}, {"rotation": "none", "rank": 0, "row_scales": False}])
def test_generation_gives_the_tokens_of_the_decoded_matrices(codebook, options):
    model = packed_model(
        {"hidden_size": 72, "intermediate_size": 100}, codebook=codebook, **options
    )
    assert model.engines().decode(Team(1)) is None
    assert model.engines().prompt(Team(1)) is None
    found = list(generate(model, IDS, 24, threads=2))
    assert found == list(generate(decoded(model), IDS, 24, threads=1, activations="f32"))
    assert len(set(found)) > 2


@every
def test_single_tokens_and_whole_prompts_give_the_same_logits(codebook):
    model = packed_model(codebook=codebook)
    whole = model.logits(IDS[None])[0]
    decoder = Decoder(model, len(IDS))
    steps = np.stack([decoder.advance(IDS[i : i + 1]).copy() for i in range(len(IDS))])
    np.testing.assert_allclose(steps, whole, rtol=1e-3, atol=1e-4 * np.abs(whole).max())


def test_there_is_one_that_no_engine_reads():
    assert PLAIN
