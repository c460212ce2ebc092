"""GPT-Neo: GPT-2 of which every other block sees a window (Black et al., 2021).

Scores are not scaled, and matrices are stored as linear layers have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import FormatError
from lrc.models.config_reader import count, short
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import NO_ROTARY, decoder_keys
from lrc.models.gpt2 import ENDS, NORMS, gpt2_tensors
from lrc.models.gpt_block import GptBlock, GptLayers
from lrc.models.gpt_keys import HARMLESS
from lrc.models.tensors import Tensors

KEYS = decoder_keys(
    "gpt_neo",
    used=("attention_layers", "attention_types", "window_size"),
    harmless={
        **HARMLESS,
        "resid_dropout": "is for training",
        "embed_dropout": "is for training",
        "classifier_dropout": "is for training",
        "scale_attn_weights": "scores are not scaled, whatever it says",
    },
    spelled={
        **NO_ROTARY,
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "hidden_act": "activation_function",
        "rms_norm_eps": "layer_norm_epsilon",
        "num_key_value_heads": None,
        "head_dim": None,
    },
)
DEFAULTS = Defaults(bos_id=50256, eps=1e-5, tied=True, widening=4, activation="gelu_new")
LAYERS = GptLayers(
    ("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
    "attn.attention.out_proj",
    "mlp.c_fc",
    "mlp.c_proj",
)
MASKS = ("attn.attention.bias", "attn.attention.masked_bias")
#: Where the keys are absent: kinds of blocks and how often they come, and tokens of a window.
TYPES: list[Any] = [[["global", "local"], 12]]
WINDOW = 256


@dataclass(frozen=True)
class GptNeoConfig(DecoderConfig):
    """Shapes and constants of a GPT-Neo model."""

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Read the fields of a Hugging Face ``config.json``.

        Raises
        ------
        FormatError
            When a field is missing or is not what its name says.
        UnsupportedModelError
            When a field asks for something that is not computed here.
        """
        fields = decoder_fields(config, KEYS, DEFAULTS)
        width = count(config, "window_size", WINDOW)
        kinds = _kinds(config, fields["layers"])
        windows = tuple(width if kind == "local" else 0 for kind in kinds)
        return cls(**{**fields, "windows": windows, "scale": 1.0})


def _kinds(config: Mapping[str, Any], layers: int) -> list[str]:
    """Kind of every block, "global" or "local"."""
    given = config.get("attention_types")
    given = TYPES if given is None else given
    try:
        # More than there are blocks are as wrong as all that a number may ask for.
        kinds = [kind for names, times in given for kind in list(names) * min(times, layers + 1)]
    except (TypeError, ValueError):
        kinds = []
    if len(kinds) != layers or any(kind not in ("global", "local") for kind in kinds):
        raise FormatError(
            f"config.json: attention_types={short(given)} must say for each of "
            f"num_layers={layers} blocks whether it is 'global' or 'local'"
        )
    if config.get("attention_layers") not in (None, kinds):
        raise FormatError(
            f"config.json: attention_layers={short(config['attention_layers'])} must be as "
            f"attention_types={short(given)} has it"
        )
    return kinds


class GptNeoBlock(GptBlock):
    """Its two parts one after the other."""

    layers = LAYERS
    norms = NORMS


def tensors(config: GptNeoConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    biased = (LAYERS.output, LAYERS.up, LAYERS.down)
    return gpt2_tensors(config, LAYERS, biased=biased, masks=MASKS)


GPT_NEO = DecoderFamily("gpt_neo", GptNeoConfig.from_dict, tensors, GptNeoBlock, ENDS)
