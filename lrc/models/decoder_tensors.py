"""Every tensor of a dense decoder's checkpoint, by its name, and what it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from lrc.models.base import Site
from lrc.models.decoder_config import DecoderConfig
from lrc.models.tensors import EMBEDDING, HEAD, Ignored, Matrix, Plain, Table, Tensor, Tensors

_EMBEDDING, _HEAD, _FINAL_NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
#: Key of the norm after the last block.
FINAL_NORM = "norm"
#: Sites of a block with rotary attention and a gated feed-forward part, under the usual names.
SITES = (
    Site("attn_input", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    Site("attn_output", ("self_attn.o_proj",), writes=True),
    Site("mlp_input", ("mlp.gate_proj", "mlp.up_proj")),
    Site("mlp_output", ("mlp.down_proj",), writes=True),
)
#: Its norms: before attention, and before the feed-forward part.
NORMS = ("input_layernorm", "post_attention_layernorm")

_ROTARY = re.compile(r"(.+\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)")
_BLOCK = re.compile(r"model\.layers\.(\d+)\..+")


def linear_shapes(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """(m, n) of each linear layer of such a block, in the order of the sites."""
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


def decoder_tensors(
    config: DecoderConfig,
    *,
    sites: Sequence[Site] = SITES,
    shapes: Callable[[DecoderConfig], Mapping[str, tuple[int, int]]] = linear_shapes,
    biased: Collection[str] = (),
    norms: Mapping[str, int] | None = None,
) -> Tensors:
    """Name, shape and role of every tensor of a checkpoint with this configuration.

    Not read are rotary tables, which follow from the configuration; blocks after the last one
    that it counts, as in transformers; and the head of a model whose head is its embedding.

    Parameters
    ----------
    config : DecoderConfig
    sites : sequence of Site
        Of every block.
    shapes : function of the configuration
        (m, n) of their linear layers, by key.
    biased : collection of str
        Keys of the linear layers that have a bias.
    norms : mapping, optional
        Width of every norm of a block, by key; those of `NORMS` are as wide as the stream.
    """
    table = (config.vocab, config.hidden)
    stand_in = _HEAD if config.tied else ""
    read = {_EMBEDDING: Tensor(table, Table(EMBEDDING), stand_in)}
    widths = dict.fromkeys(NORMS, config.hidden) if norms is None else norms
    found = shapes(config)
    for block in range(config.layers):
        prefix = f"model.layers.{block}."
        for site in sites:
            for key in site.linears:
                name = prefix + key
                read[f"{name}.weight"] = Tensor(found[key], Matrix(block, site.name, key))
                if key in biased:
                    read[f"{name}.bias"] = Tensor(found[key][:1], Plain(block, f"{key}.bias"))
        for key, width in widths.items():
            read[f"{prefix}{key}.weight"] = Tensor((width,), Plain(block, key))
    read[_FINAL_NORM] = Tensor((config.hidden,), Plain(None, FINAL_NORM))
    if not config.tied:
        read[_HEAD] = Tensor(table, Table(HEAD))

    def ignored(name: str) -> Ignored | None:
        if _ROTARY.fullmatch(name):
            return Ignored("the rotary table follows from config.json")
        if config.tied and name == _HEAD:
            return Ignored("the head is the embedding", same_as=_EMBEDDING)
        match = _BLOCK.fullmatch(name)
        if match and int(match[1]) >= config.layers:
            return Ignored(f"config.json counts {config.layers} layers", told=True)
        return None

    return Tensors(read, ignored)
