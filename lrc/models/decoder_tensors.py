"""Every tensor of a dense decoder's checkpoint, by its name, and what it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lrc.formats.view import View
from lrc.models.base import Site
from lrc.models.decoder_config import DecoderConfig, StackConfig
from lrc.models.tensors import EMBEDDING, HEAD, Ignored, Matrix, Plain, Table, Tensor, Tensors

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
#: Keys of the linear layers that give queries, keys and values.
QKV = SITES[0].linears
#: Norms of queries and of keys, in families that have them.
Q_NORM, K_NORM = "self_attn.q_norm", "self_attn.k_norm"

_ROTARY = re.compile(r"(.+\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)")


@dataclass(frozen=True)
class Names:
    """What a family calls the tensors that every decoder has.

    Attributes
    ----------
    block : str
        Before the keys of a block, whose index stands at ``{}``.
    embedding, head : str
        Tables, without ``.weight``.
    final_norm : str
        Without ``.weight``.
    base : str
        What stands before all names but the head's, and is not there where the model was saved
        without a head.
    """

    block: str = "model.layers.{}."
    embedding: str = "model.embed_tokens"
    head: str = "lm_head"
    final_norm: str = "model.norm"
    base: str = ""


@dataclass(frozen=True)
class Outside:
    """A tensor outside the blocks: its name, and its shape."""

    name: str
    shape: tuple[int, ...]


#: Those of Llama and its kin.
NAMES = Names()


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


def usual_norms(config: StackConfig, *others: str) -> dict[str, int]:
    """Widths of the norms of `NORMS`, and of others that are as wide as the stream."""
    return dict.fromkeys((*NORMS, *others), config.hidden)


def qk_norms(config: DecoderConfig) -> dict[str, int]:
    """Widths of norms of queries and keys that all heads share."""
    return dict.fromkeys((Q_NORM, K_NORM), config.head_dim)


def biased_linears(config: DecoderConfig) -> list[str]:
    """Keys of the linear layers with a bias, where two keys of ``config.json`` say which."""
    return [
        key
        for key in linear_shapes(config)
        if (config.attention_bias if key.startswith("self_attn.") else config.mlp_bias)
    ]


def site_tensors(
    block: int,
    prefix: str,
    sites: Sequence[Site],
    shapes: Mapping[str, tuple[int, int]],
    *,
    biased: Collection[str] = (),
    layouts: Mapping[str, tuple[View, ...]] | None = None,
) -> dict[str, Tensor]:
    """The matrices of some sites of a block, and biases of those that have any, by name.

    ``prefix`` stands before keys; ``shapes`` and ``layouts``, where there are any, are by key.
    """
    read, places = {}, layouts or {}
    for site in sites:
        for key in site.linears:
            role, name = Matrix(block, site.name, key), prefix + key
            read[f"{name}.weight"] = Tensor(shapes[key], role, places.get(key, ()))
            if key in biased:
                read[f"{name}.bias"] = Tensor(shapes[key][:1], Plain(block, f"{key}.bias"))
    return read


def decoder_tensors(
    config: StackConfig,
    *,
    sites: Sequence[Site] = SITES,
    shapes: Callable[[Any], Mapping[str, tuple[int, int]]] = linear_shapes,
    biased: Collection[str] | None = None,
    transposed: Collection[str] = (),
    norms: Mapping[str, int | tuple[int, ...]] | None = None,
    norm_bias: bool = False,
    inside: Mapping[str, tuple[int, ...]] | None = None,
    names: Names = NAMES,
    outside: Mapping[str, Outside] | None = None,
    more: Callable[[int, str], Mapping[str, Tensor]] = lambda block, prefix: {},
    masks: Collection[str] = (),
    ignored: Callable[[str], Ignored | None] = lambda name: None,
) -> Tensors:
    """Name, shape and role of every tensor of a checkpoint with this configuration.

    Not read are rotary tables, which follow from the configuration; blocks after the last one
    that it counts, as in transformers; and the head of a model whose head is its embedding.

    Parameters
    ----------
    config : StackConfig
    sites : sequence of Site
        Of every block.
    shapes : function of the configuration
        (m, n) of their linear layers, by key.
    biased : collection of str
        Keys of the linear layers that have a bias; None is `biased_linears` of a `DecoderConfig`.
    transposed : collection of str
        Keys of the linear layers whose weights dense checkpoints store as (n, m).
    norms : mapping, optional
        Width or shape of every norm of a block, by key; None is `usual_norms`.
    norm_bias : bool
        Whether all norms, the final one too, have a bias; its key ends in ``.bias``.
    inside : mapping, optional
        Shapes of further tensors of a block, by their names in it, which are also their keys.
    names : Names
    outside : mapping, optional
        Further tensors outside the blocks, by key.
    more : function
        From the index of a block and the prefix of its names to further tensors of it, by name.
    masks : collection of str
        Tensors of a block that say which tokens one sees, by key: they are not read.
    ignored : function
        From the name of another tensor to the reason why it is not read, if it is known.
    """
    table = (config.vocab, config.hidden)
    embedding, head = f"{names.embedding}.weight", f"{names.head}.weight"
    places = (View(embedding), View(head))  # a tied head may be stored in its place
    read = {embedding: Tensor(table, Table(EMBEDDING), places if config.tied else ())}
    normed = usual_norms(config) if norms is None else norms
    if biased is None:
        assert isinstance(config, DecoderConfig)
        biased = biased_linears(config)
    found = shapes(config)

    for block in range(config.layers):
        prefix = names.block.format(block)
        layouts = {key: (View(f"{prefix}{key}.weight", transposed=True),) for key in transposed}
        read |= site_tensors(block, prefix, sites, found, biased=biased, layouts=layouts)
        read |= more(block, prefix)
        for key, size in normed.items():
            read |= _norm_tensors(block, prefix + key, key, size, norm_bias)
        for key, shape in (inside or {}).items():
            read[prefix + key] = Tensor(shape, Plain(block, key))
    read |= _norm_tensors(None, names.final_norm, FINAL_NORM, config.hidden, norm_bias)
    for key, tensor in (outside or {}).items():
        read[tensor.name] = Tensor(tensor.shape, Plain(None, key))
    if not config.tied:
        read[head] = Tensor(table, Table(HEAD))
    if names.base:
        read = {name: _without(names.base, name, tensor) for name, tensor in read.items()}
    return Tensors(read, _not_read(config, names, masks, ignored))


def _norm_tensors(
    block: int | None, name: str, key: str, size: int | tuple[int, ...], bias: bool
) -> dict[str, Tensor]:
    """A norm, with a bias or without."""
    shape = (size,) if isinstance(size, int) else size
    found = {f"{name}.weight": Tensor(shape, Plain(block, key))}
    if bias:
        found[f"{name}.bias"] = Tensor(shape, Plain(block, f"{key}.bias"))
    return found


def _not_read(
    config: StackConfig,
    names: Names,
    masks: Collection[str],
    others: Callable[[str], Ignored | None],
) -> Callable[[str], Ignored | None]:
    """From the name of a tensor that is not read to the reason, if it is known."""
    in_block = re.compile(re.escape(names.block).replace(re.escape("{}"), r"(\d+)") + "(.+)")

    def reason(name: str) -> Ignored | None:
        if _ROTARY.fullmatch(name):
            return Ignored("the rotary table follows from config.json")
        if config.tied and name == f"{names.head}.weight":
            return Ignored("the head is the embedding", same_as=f"{names.embedding}.weight")
        name = names.base + name.removeprefix(names.base)
        match = in_block.fullmatch(name)
        if match and int(match[1]) >= config.layers:
            return Ignored(f"config.json counts {config.layers} layers", told=True)
        if match and match[2] in masks:
            return Ignored("in every model, no token sees a later one")
        return others(name)

    return reason


def _without(base: str, name: str, tensor: Tensor) -> Tensor:
    """The same tensor, which may lie under names that lack ``base``, too."""
    places = tensor.layouts or (View(name),)
    short = [replace(view, stored=view.stored.removeprefix(base)) for view in places]
    return replace(tensor, layouts=tuple(dict.fromkeys((*places, *short))))
