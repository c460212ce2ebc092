"""The configuration of dense decoders: known values are taken, others are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrc.errors import FormatError
from lrc.models.activations import activation
from lrc.models.config_reader import MOST_LAYERS, ConfigKeys, count, first_id, flag, number
from lrc.models.decoder_rope import WHOLE_HEADS, Rotary, read_rope
from lrc.models.decoder_windows import NO_WINDOWS, Windows
from lrc.nn.rope import Rope


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """What every model of one stack has: shapes and constants, under short names.

    ``max_positions``: the most tokens of a text; ``eps``: of the final norm; ``tied``: whether the
    head is the embedding.
    """

    hidden: int
    layers: int
    vocab: int
    max_positions: int
    eps: float
    tied: bool
    bos_id: int | None


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(StackConfig):
    """Shapes and constants of a dense decoder with rotary attention; families add their own.

    ``windows``: tokens that one sees in each block, itself included; 0 is all. ``rope``: None
    where positions are not rotated. ``attention_bias``, ``mlp_bias``: read in families that use
    these keys. ``activation``: of the feed-forward part, a kind of
    `lrc.nn.layers.ACTIVATIONS`. ``scale``, ``cap``: of attention, as in `lrc.nn.ops.Attend`.
    """

    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    rope: Rope | None
    windows: tuple[int, ...]
    activation: str = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False
    scale: float | None = None
    cap: float = 0.0


@dataclass(frozen=True)
class Defaults:
    """What transformers takes for a family where ``config.json`` is silent.

    ``kv_heads``, ``head_dim``, ``bos_id``, ``tied`` and ``attention_bias`` are for keys that are
    absent: null says something else there, as many as query heads, their share of the stream, no
    token, no and no.
    ``widening``: of the feed-forward part, whose width is so many times that of the stream; None
    where a file has to say it. ``activation``: as files name it.
    """

    kv_heads: int | None = None
    head_dim: int | None = None
    bos_id: int | None = None
    max_positions: int = 2048
    eps: float = 1e-6
    rotary: Rotary = WHOLE_HEADS
    tied: bool = False
    widening: int | None = None
    activation: str = "silu"
    attention_bias: bool = False


def decoder_fields(
    config: Mapping[str, Any],
    keys: ConfigKeys,
    defaults: Defaults = Defaults(),
    windows: Windows = NO_WINDOWS,
) -> dict[str, Any]:
    """Read the fields of `DecoderConfig`, and refuse every key that ``keys`` does not know.

    Raises
    ------
    FormatError
        When a field is missing or is not what its name says.
    UnsupportedModelError
        When a field asks for something that is not computed here.
    """
    keys.check(config)
    name = keys.name
    layers = count(config, name("num_hidden_layers"), most=MOST_LAYERS)
    hidden = count(config, name("hidden_size"))
    heads = count(config, name("num_attention_heads"))
    if not name("head_dim") and hidden % heads:
        raise FormatError(
            f"config.json: {name('hidden_size')}={hidden} must be a multiple of "
            f"{name('num_attention_heads')}={heads}"
        )
    absent = defaults.kv_heads if name("num_key_value_heads") not in config else None
    kv_heads = count(config, name("num_key_value_heads"), absent or heads)
    absent = defaults.head_dim if name("head_dim") not in config else None
    head_dim = count(config, name("head_dim"), absent or hidden // heads)
    if heads % kv_heads:
        raise FormatError(
            f"config.json: num_attention_heads={heads} must be a multiple of "
            f"num_key_value_heads={kv_heads}"
        )
    wide = defaults.widening and hidden * defaults.widening
    positions = count(config, name("max_position_embeddings"), defaults.max_positions)
    biases = (("attention_bias", defaults.attention_bias), ("mlp_bias", False))
    rope = None
    if name("rope_parameters"):
        rope = read_rope(config, keys.family, head_dim, positions, defaults.rotary)
    return {
        "hidden": hidden,
        "intermediate": count(config, name("intermediate_size"), wide),
        "layers": layers,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "vocab": count(config, "vocab_size"),
        "max_positions": positions if rope is None else rope.scaling.context(positions),
        "eps": number(config, name("rms_norm_eps"), defaults.eps),
        "rope": rope,
        "tied": flag(config, "tie_word_embeddings", defaults.tied),
        "bos_id": first_id(config.get("bos_token_id", defaults.bos_id)),
        "windows": windows.of(config, layers),
        "activation": activation(config, name("hidden_act"), defaults.activation),
        **{key: flag(config, key, default) for key, default in biases if key in keys.used},
    }
