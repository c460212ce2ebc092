"""Every tensor of a Whisper checkpoint, by its name, and what it is.

Blocks are counted through both halves, the encoder's first.
"""

from __future__ import annotations

import re

from lrc.formats.view import View
from lrc.models.base import Site
from lrc.models.tensors import EMBEDDING, HEAD, Ignored, Matrix, Plain, Table, Tensor, Tensors
from lrc.models.whisper_config import Half, WhisperConfig

_EMBEDDING, _HEAD = "model.decoder.embed_tokens.weight", "proj_out.weight"
_SELF = (
    Site("attn_input", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    Site("attn_output", ("self_attn.out_proj",), writes=True),
)
_CROSS = (
    Site("cross_query", ("encoder_attn.q_proj",)),
    Site("cross_memory", ("encoder_attn.k_proj", "encoder_attn.v_proj")),
    Site("cross_output", ("encoder_attn.out_proj",), writes=True),
)
_FEED_FORWARD = (Site("mlp_input", ("fc1",)), Site("mlp_output", ("fc2",), writes=True))
#: Sites of a block of each half.
ENCODER_SITES, DECODER_SITES = (*_SELF, *_FEED_FORWARD), (*_SELF, *_CROSS, *_FEED_FORWARD)
#: Norms before the parts of a block, in the order of the parts, by key.
ENCODER_NORMS = ("self_attn_layer_norm", "final_layer_norm")
DECODER_NORMS = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
_BLOCK = re.compile(r"model\.(encoder|decoder)\.layers\.(\d+)\..+")


def whisper_tensors(config: WhisperConfig) -> Tensors:
    """Name, shape and role of every tensor of a checkpoint with this configuration."""
    hidden, table = config.hidden, (config.vocab, config.hidden)
    places = (View(_EMBEDDING), View(_HEAD)) if config.tied else ()
    read = {
        **_plain("encoder.conv1", (hidden, config.mels, 3), bias=True),
        **_plain("encoder.conv2", (hidden, hidden, 3), bias=True),
        **_plain("encoder.embed_positions", (config.sources, hidden)),
        **_blocks("encoder", config.encoder, hidden, 0, ENCODER_SITES, ENCODER_NORMS),
        **_plain("encoder.layer_norm", (hidden,), bias=True),
        _EMBEDDING: Tensor(table, Table(EMBEDDING), places),
        **_plain("decoder.embed_positions", (config.max_positions, hidden)),
        **_blocks(
            "decoder", config.decoder, hidden, config.encoder.layers, DECODER_SITES, DECODER_NORMS
        ),
        **_plain("decoder.layer_norm", (hidden,), bias=True),
    }
    if not config.tied:
        read[_HEAD] = Tensor(table, Table(HEAD))
    layers = {"encoder": config.encoder.layers, "decoder": config.decoder.layers}

    def ignored(name: str) -> Ignored | None:
        if config.tied and name == _HEAD:
            return Ignored("the head is the embedding", same_as=_EMBEDDING)
        match = _BLOCK.fullmatch(name)
        if match and int(match[2]) >= layers[match[1]]:
            return Ignored(f"config.json counts {layers[match[1]]} {match[1]} layers", told=True)
        return None

    return Tensors(read, ignored)


def _blocks(
    half: str, sizes: Half, hidden: int, first: int, sites: tuple[Site, ...], norms: tuple[str, ...]
) -> dict[str, Tensor]:
    shapes = {"fc1": (sizes.intermediate, hidden), "fc2": (hidden, sizes.intermediate)}
    found = {}
    for layer in range(sizes.layers):
        prefix, block = f"model.{half}.layers.{layer}.", first + layer
        for site in sites:
            for key in site.linears:
                shape = shapes.get(key, (hidden, hidden))
                found[f"{prefix}{key}.weight"] = Tensor(shape, Matrix(block, site.name, key))
                if not key.endswith("k_proj"):
                    found[f"{prefix}{key}.bias"] = Tensor(shape[:1], Plain(block, f"{key}.bias"))
        for key in norms:
            for name, part in ((key, "weight"), (f"{key}.bias", "bias")):
                found[f"{prefix}{key}.{part}"] = Tensor((hidden,), Plain(block, name))
    return found


def _plain(key: str, shape: tuple[int, ...], *, bias: bool = False) -> dict[str, Tensor]:
    """A tensor outside the blocks under its key, and its bias under the key and ``.bias``."""
    found = {f"model.{key}.weight": Tensor(shape, Plain(None, key))}
    if bias:
        found[f"model.{key}.bias"] = Tensor(shape[:1], Plain(None, f"{key}.bias"))
    return found
