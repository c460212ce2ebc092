"""A model on packed weights computes what the model on the decoded weights computes."""

import numpy as np
import pytest
from packed_cases import random_matrix
from random_weights import MemorySource
from tiny_llama import tiny_config, tiny_weights

from lrc.measure.evaluate import perplexity
from lrc.models import load_model
from lrc.parts.matrix import PackedMatrix
from lrc.run.generate import generate
from lrc.run.sampler import Sampler

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class PackedSource(MemorySource):
    """Every matrix packed: 2-bit lattice codes in the blocks, 8-bit levels in the tables."""

    is_as_read = True

    def linear(self, name):
        shape = self.weights[name].shape
        seed = sum(name.encode())
        if name in (EMBEDDING, HEAD):
            return random_matrix(shape, ("lloyd-max", 8), rotation="none", rank=0, seed=seed)
        return random_matrix(shape, seed=seed)


def pair(**changes):
    config = tiny_config(**changes)
    weights = tiny_weights(config, 9)
    packed = PackedSource(config, weights)
    decoded = {
        name: packed.linear(name).to_dense() if value.ndim == 2 else value
        for name, value in weights.items()
    }
    return load_model(packed), load_model(MemorySource(config, decoded))


@pytest.mark.parametrize(
    "changes",
    [{"tie_word_embeddings": True, "num_key_value_heads": 2}, {"attention_bias": True}],
)
def test_packed_equals_decoded(changes):
    packed, dense = pair(**changes)
    assert isinstance(packed.blocks[0].linears["mlp.up_proj"].matrix, PackedMatrix)
    ids = np.random.default_rng(31).integers(0, 48, (2, 20))
    expected = dense.logits(ids)
    bound = 1e-4 * np.abs(expected).max()
    assert np.abs(packed.logits(ids) - expected).max() < bound
    cache = packed.new_cache(1, 20)
    steps = [packed.logits(ids[:1, i : i + 1], cache) for i in range(20)]
    assert np.abs(np.concatenate(steps, axis=1) - expected[:1]).max() < bound
    found = perplexity(packed, ids, against=dense)
    assert abs(found.kl_divergence) < 1e-6
    sampler = Sampler(temperature=1.0)
    assert list(generate(packed, [1, 2], 8, sampler)) == list(generate(dense, [1, 2], 8, sampler))
