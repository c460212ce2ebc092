"""The decode engine computes what the blocks compute, for every kind of packed matrix."""

from dataclasses import replace

import numpy as np
import pytest
from engine_checks import assert_close, on_15_bits
from packed_cases import codes_of, random_matrix
from packed_models import TABLES, PackedSource
from packed_models import packed_model as packed
from random_weights import MemorySource
from seven_bits import RoundedLinear
from tiny_llama import tiny_config, tiny_weights

from lrc.errors import SpecError
from lrc.models import load_model
from lrc.nn.engine.team import Team
from lrc.run.generate import STEPPED, Decoder, generate
from lrc.run.sampler import Sampler

IDS = np.random.default_rng(31).integers(0, 48, (1, 20))


CASES = [
    ({}, {}),
    ({"num_key_value_heads": 2, "tie_word_embeddings": True}, {"rank": 0}),
    ({"num_key_value_heads": 1, "head_dim": 64}, {"row_scales": False}),
    ({"head_dim": 12, "attention_bias": True, "mlp_bias": True}, {"codebook": ("e8p-rvq3", 3)}),
    ({"hidden_size": 576, "intermediate_size": 280}, {"codebook": ("e8p-rvq4", 4)}),
    ({"head_dim": 48}, {"codebook": ("uniform", 4), "group_size": 64, "rotation": "none"}),
    ({"hidden_size": 72, "intermediate_size": 260}, {"codebook": ("uniform", 3)}),
    ({}, {"codebook": ("uniform", 2), "rotation": "none", "rank": 3, "factor_bits": 8}),
    ({}, {"codebook": ("uniform", 5), "factor_bits": 16}),
    ({"intermediate_size": 300}, {"codebook": ("uniform", 6), "group_size": 128}),
    ({}, {"codebook": ("uniform", 7), "factor_bits": 3}),
    ({}, {"codebook": ("lloyd-max", 4), "group_size": 16}),
    ({}, {"codebook": ("lloyd-max", 4)}),
    ({}, {"codebook": ("lloyd-max", 3), "group_size": 64}),
    ({}, {"codebook": ("lloyd-max", 8)}),
    ({}, {"codebook": ("none", 0), "rank": 4}),
    ({"intermediate_size": 64}, {"codebook": ("trellis12", 2)}),
    ({"head_dim": 12, "intermediate_size": 300}, {"rotation": "hadamard-real"}),
    ({"hidden_size": 96, "intermediate_size": 272}, {"codebook": ("trellis8", 3), "rank": 0}),
    (
        {"hidden_size": 576, "intermediate_size": 304},
        {"codebook": ("trellis16", 4), "row_scales": False},
    ),
]


def steps(model, threads, *, fine=True):
    """Logits of every position; ``fine``: all on 15 bits, trellises too."""
    decoder = Decoder(model, IDS.shape[1], threads)
    if fine:
        on_15_bits(decoder._engine)
    return np.stack([decoder.advance(IDS[0, i : i + 1]).copy() for i in range(IDS.shape[1])])


@pytest.mark.parametrize(("changes", "options"), CASES, ids=str)
def test_steps_equal_the_blocks(changes, options):
    model = packed(changes, **options)
    expected = model.logits(IDS)[0]
    found = steps(model, 1)
    assert_close(found, expected)


TRELLISES = [case for case in CASES if "trellis" in case[1].get("codebook", ("",))[0]]


@pytest.mark.parametrize(("changes", "options"), TRELLISES, ids=str)
def test_seven_bits_are_those_of_the_rule(changes, options):
    """The blocks agree as closely as without rounding, once their own inputs are rounded alike.

    Where an input lies halfway between two steps, they may still take different ones.
    """
    model = packed(changes, **options)
    short, fine = steps(model, 1, fine=False), steps(model, 1)
    assert_close(short, rounded(model).logits(IDS)[0], worst=2.0**-3)
    assert not np.array_equal(short, fine)


def rounded(model):
    """The model with `RoundedLinear` for every layer of its blocks."""
    model._blocks = tuple(
        block.with_linears(
            {key: RoundedLinear(f.matrix, f.bias) for key, f in block.linears.items()}
        )
        for block in model.blocks
    )
    return model


class MixedSource(PackedSource):
    """Trellises and, one at each site, lattices; the matrices of a site have equal signs."""

    LATTICES = ("k_proj", "o_proj", "up_proj", "down_proj")

    def linear(self, name):
        matrix = super().linear(name)
        if name in TABLES:
            return matrix
        if name.split(".")[-2] in self.LATTICES:
            matrix = random_matrix(matrix.shape, ("e8p", 2))
        signs = np.random.default_rng(matrix.shape[1]).integers(0, 256, matrix.signs_in.shape)
        return replace(matrix, signs_in=signs.astype(np.uint8))


def test_a_lattice_has_15_bits_beside_a_trellis_too():
    config = tiny_config(intermediate_size=64)
    model = load_model(MixedSource(config, (("uniform", 8), 64), codebook=("trellis12", 2)))
    expected = model.logits(IDS)[0]
    assert_close(steps(model, 1, fine=False), expected)


@pytest.mark.parametrize(
    "table",
    [
        None,
        (("uniform", 8), 0),
        (("lloyd-max", 8), 16),
        (("uniform", 4), 0, "inputs"),
        (("uniform", 5), 0, "inputs"),
    ],
    ids=str,
)
def test_tables(table):
    model = packed(table=table)
    expected = model.logits(IDS)[0]
    assert_close(steps(model, 1), expected)


@pytest.mark.parametrize("codebook", [("e8p", 2), ("trellis12", 2)], ids=str)
def test_any_number_of_threads_gives_the_same_bits(codebook):
    changes = {"hidden_size": 96, "intermediate_size": 112, "num_key_value_heads": 2}
    model = packed(changes, codebook=codebook)
    one = steps(model, 1, fine=False)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(steps(model, threads, fine=False), one)


@pytest.mark.parametrize("length", [STEPPED, STEPPED + 1])
def test_generate_is_the_same_by_engine_and_by_blocks(length):
    model = packed()
    prompt = np.arange(1, 1 + length)
    sampler = Sampler(temperature=1.0)
    texts = [list(generate(model, prompt, 8, sampler, activations=kind)) for kind in ("i8", "f32")]
    assert texts[0] == texts[1]


def test_unknown_activations_are_refused():
    with pytest.raises(SpecError, match="i8, i15, f32"):
        generate(packed(), [1], 1, activations="i4")


def test_codes_are_not_copied():
    model = packed()
    engine = model.engines().decode(Team(1))
    kept = [a for a in engine._program.source.layout._kept if a.dtype == np.uint16]
    planes = [codes_of(f.matrix).planes[0] for b in model.blocks for f in b.linears.values()]
    assert all(any(np.shares_memory(p, k) for k in kept) for p in planes)


def test_a_full_cache_is_refused():
    model = packed()
    decoder = Decoder(model, 1)
    decoder.advance(IDS[0, :1])
    with pytest.raises(SpecError, match="2 are needed"):
        decoder.advance(IDS[0, :1])


def test_dense_models_have_no_engine():
    config = tiny_config()
    assert (
        load_model(MemorySource(config, tiny_weights(config, 9))).engines().decode(Team(1)) is None
    )
