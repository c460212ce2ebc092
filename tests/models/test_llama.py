"""Llama models: when weights are read, and configurations refused by name."""

import threading

import numpy as np
import pytest
from random_weights import MemorySource
from tiny_llama import LLAMA3, tiny_config, tiny_model, tiny_weights

from lrc.errors import FormatError, SpecError, UnsupportedModelError
from lrc.models import load_model
from lrc.models.llama import LlamaConfig
from lrc.nn.linear import DenseLinear
from lrc.nn.ops import STREAM, Pass
from lrc.nn.rope import Rope

MODEL = tiny_model(num_key_value_heads=2)
IDS = np.random.default_rng(31).integers(0, 48, (3, 24))


def worst(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


def test_with_linears_replaces_only_what_is_given():
    block, positions = MODEL.blocks[1], np.arange(24)
    h = MODEL.embed(IDS)
    silent = block.with_linears({"mlp.down_proj": DenseLinear(np.zeros((32, 56), np.float32))})
    at = Pass(positions)
    stream = block.step(1, block.step(0, block.enter({STREAM: h}, at), at), at)[STREAM]
    np.testing.assert_array_equal(silent(h, positions), stream)
    assert "mlp.down_proj" in block.linears
    assert worst(block(h, positions), stream) > 1e-3
    with pytest.raises(SpecError, match=r"mlp\.middle_proj"):
        block.with_linears({"mlp.middle_proj": block.linears["mlp.up_proj"]})


class CountingSource(MemorySource):
    is_as_read = True

    def __init__(self, config, weights):
        super().__init__(config, weights)
        self.reads = []

    def dense(self, name):
        self.reads.append(name)
        return super().dense(name)

    linear = dense


def counting_model(**changes):
    config = tiny_config(**changes)
    return load_model(CountingSource(config, tiny_weights(config, 9)))


def test_weights_are_read_once_even_by_several_threads():
    model = counting_model()
    assert model.source.reads == []
    results = []
    workers = [threading.Thread(target=lambda: results.append(model.logits(IDS))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    assert sorted(model.source.reads) == sorted(model.source.weights)
    for result in results:
        np.testing.assert_array_equal(result, results[0])


def test_load_block_keeps_nothing_and_release_forgets():
    model = counting_model()
    model.stacks[0].load_block(1)
    model.stacks[0].load_block(1)
    assert model.source.reads.count("model.layers.1.mlp.up_proj.weight") == 2
    blocks = model.blocks
    assert model.blocks is blocks
    before = model.logits(IDS)
    model.release()
    assert model.blocks is not blocks
    np.testing.assert_array_equal(model.logits(IDS), before)
    assert model.source.reads.count("model.embed_tokens.weight") == 2
    assert model.source.reads.count("lm_head.weight") == 2


def test_a_tied_head_is_the_embedding():
    model = counting_model(tie_word_embeddings=True)
    model.logits(IDS)
    assert model.source.reads.count("model.embed_tokens.weight") == 1
    assert "lm_head.weight" not in model.source.reads


def test_ids_outside_the_vocabulary_are_refused():
    for bad in (-1, 48):
        with pytest.raises(SpecError, match="the model knows 0 to 47"):
            MODEL.logits(np.array([[3, bad]]))


def broken(change, **config_changes):
    config = tiny_config(**config_changes)
    weights = tiny_weights(config, 9)
    change(weights)
    return load_model(MemorySource(config, weights))


def test_a_wrong_shape_is_named():
    name = "model.layers.1.self_attn.k_proj.weight"
    with pytest.raises(FormatError, match=r"layers\.1\.self_attn\.k_proj.*\(31, 32\).*\(32, 32\)"):
        broken(lambda w: w.update({name: w[name][:-1]}))


def test_wrong_biases_are_named():
    name = "model.layers.0.self_attn.o_proj.bias"
    with pytest.raises(FormatError, match=r"has no tensor '.*o_proj\.bias'"):
        broken(lambda w: w.pop(name), attention_bias=True)
    with pytest.raises(UnsupportedModelError, match=r"has '.*o_proj\.bias', which .* not use"):
        broken(lambda w: w.update({name: np.zeros(32, np.float32)}))


def test_an_unknown_model_type_lists_the_known():
    with pytest.raises(UnsupportedModelError, match=r"'elsewhere' is not supported; .*llama"):
        load_model(MemorySource({"model_type": "elsewhere"}, {}))
    with pytest.raises(UnsupportedModelError, match="model_type=None"):
        load_model(MemorySource({}, {}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_act": "mish"}, "hidden_act='mish'"),
        ({"sliding_window": 4096}, "sliding_window=4096"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_interleaved": True}, "rope_interleaved=True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}, "rope_type='mrope'"),
        ({"rope_scaling": {"rope_type": "proportional"}}, "rope_type='proportional'"),
        ({"rope_scaling": {"rope_type": ["yarn"]}}, "rope_type=['yarn']"),
        ({"rope_parameters": {"partial_rotary_factor": 0.25}}, "partial_rotary_factor=0.25"),
    ],
)
def test_unsupported_values_are_refused_by_name(change, words):
    with pytest.raises(UnsupportedModelError) as caught:
        LlamaConfig.from_dict(tiny_config(**change))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": None}, "hidden_size=None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0"),
        ({"vocab_size": "many"}, "vocab_size='many'"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads=3"),
        ({"head_dim": 7}, "head_dim=7"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps=-1.0"),
        ({"attention_bias": "yes"}, "attention_bias='yes'"),
        ({"rope_scaling": "linear"}, "rope_scaling='linear'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor=None"),
        ({"rope_scaling": {"rope_type": "dynamic"}}, "factor=None"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "low_freq_factor=4.0"),
        ({"rope_scaling": LLAMA3 | {"factor": True}}, "factor=True"),
    ],
)
def test_malformed_values_are_refused_by_name(change, words):
    with pytest.raises(FormatError) as caught:
        LlamaConfig.from_dict(tiny_config(**change))
    assert words in str(caught.value)


def test_absent_fields_take_the_family_defaults():
    small = {
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 48,
    }
    config = LlamaConfig.from_dict(small)
    assert (config.kv_heads, config.head_dim, config.max_positions) == (4, 8, 2048)
    assert (config.eps, config.rope) == (1e-6, Rope(8, 10000.0))
    assert (config.tied, config.attention_bias, config.mlp_bias) == (False, False, False)
    assert config.bos_id is None
    assert LlamaConfig.from_dict(small | {"bos_token_id": [5, 6]}).bos_id == 5
