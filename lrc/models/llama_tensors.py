"""Every tensor of a Llama checkpoint, by its name, and what it is."""

from __future__ import annotations

import re

from lrc.models.base import Site
from lrc.models.llama_config import LlamaConfig
from lrc.models.tensors import Ignored, Matrix, Plain, Table, Tensor, Tensors

EMBEDDING, HEAD, FINAL_NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
SITES = (
    Site("attn_input", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    Site("attn_output", ("self_attn.o_proj",), writes=True),
    Site("mlp_input", ("mlp.gate_proj", "mlp.up_proj")),
    Site("mlp_output", ("mlp.down_proj",), writes=True),
)
NORMS = ("input_layernorm", "post_attention_layernorm")

_ROTARY = re.compile(r"(.+\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)")
_BLOCK = re.compile(r"model\.layers\.(\d+)\..+")


def tensors(config: LlamaConfig) -> Tensors:
    """Name, shape and role of every tensor of a checkpoint with this configuration.

    Not read are rotary tables, which follow from the configuration; blocks after the last one
    that it counts, as in transformers; and the head of a model whose head is its embedding.
    """
    table = (config.vocab, config.hidden)
    stand_in = HEAD if config.tied else ""
    read = {EMBEDDING: Tensor(table, Table("embedding"), stand_in)}
    for block in range(config.layers):
        read |= _of_block(config, block)
    read[FINAL_NORM] = Tensor((config.hidden,), Plain())
    if not config.tied:
        read[HEAD] = Tensor(table, Table("head"))

    def ignored(name: str) -> Ignored | None:
        if _ROTARY.fullmatch(name):
            return Ignored("the rotary table follows from config.json")
        if config.tied and name == HEAD:
            return Ignored("the head is the embedding", same_as=EMBEDDING)
        match = _BLOCK.fullmatch(name)
        if match and int(match[1]) >= config.layers:
            return Ignored(f"config.json counts {config.layers} layers", told=True)
        return None

    return Tensors(read, ignored)


def _of_block(config: LlamaConfig, block: int) -> dict[str, Tensor]:
    prefix, shapes = block_prefix(block), linear_shapes(config)
    read = {f"{prefix}{key}.weight": Tensor((config.hidden,), Plain()) for key in NORMS}
    for site in SITES:
        for key in site.linears:
            read[f"{prefix}{key}.weight"] = Tensor(shapes[key], Matrix(block, site.name, key))
            if has_bias(config, key):
                read[f"{prefix}{key}.bias"] = Tensor(shapes[key][:1], Plain())
    return read


def block_prefix(block: int) -> str:
    """What the names of all tensors of a block begin with."""
    return f"model.layers.{block}."


def linear_shapes(config: LlamaConfig) -> dict[str, tuple[int, int]]:
    """(m, n) of each linear layer of a block, in the order of the sites."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, wide = config.hidden, config.intermediate
    return {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (wide, hidden),
        "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }


def has_bias(config: LlamaConfig, key: str) -> bool:
    """Whether the linear layer ``key`` of a block has a bias."""
    return config.attention_bias if key.startswith("self_attn.") else config.mlp_bias
