"""StarCoder2: rotary grouped-query attention, layer norms with a bias (Lozhkov et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count, flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import LAYER_NORM_ENDS
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.decoder_windows import Windows
from lrc.models.gpt_block import GptBlock, GptLayers
from lrc.models.tensors import Tensors

KEYS = decoder_keys(
    "starcoder2",
    used=("use_bias", "sliding_window"),
    harmless={
        "residual_dropout": "is for training",
        "embedding_dropout": "is for training",
        "mlp_type": "the feed-forward part has two layers, whatever it says",
        "norm_type": "norms are layer norms, whatever it says",
        "layer_norm_epsilon": "norm_epsilon is what norms add",
    },
    spelled={"rms_norm_eps": "norm_epsilon"},
)
DEFAULTS = Defaults(
    kv_heads=2,
    bos_id=50256,
    max_positions=4096,
    eps=1e-5,
    tied=True,
    activation="gelu_pytorch_tanh",
)
LAYERS = GptLayers(
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj",
    "mlp.c_fc",
    "mlp.c_proj",
)


@dataclass(frozen=True)
class Starcoder2Config(DecoderConfig):
    """Shapes and constants of a StarCoder2 model; ``bias``: of every linear layer."""

    bias: bool

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
        given = config.get("sliding_window")
        window = 0 if given is None else count(config, "sliding_window")
        return cls(
            **decoder_fields(config, KEYS, DEFAULTS, Windows(window)),
            bias=flag(config, "use_bias", True),
        )


class Starcoder2Block(GptBlock):
    """Its two parts one after the other."""

    layers = LAYERS


def tensors(config: Starcoder2Config) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(
        config,
        sites=LAYERS.sites,
        shapes=LAYERS.shapes,
        biased=LAYERS.all if config.bias else (),
        norm_bias=True,
    )


STARCODER2 = DecoderFamily(
    "starcoder2", Starcoder2Config.from_dict, tensors, Starcoder2Block, LAYER_NORM_ENDS
)
