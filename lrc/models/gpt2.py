"""GPT-2: learned positions, a fused matrix of queries, keys and values (Radford et al., 2019).

Its weights are stored transposed. Models that were saved without a head lack ``transformer.``
before the names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from lrc.models.config_reader import flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import Ends, Plain, layer_norm_and_head
from lrc.models.decoder_keys import NO_ROTARY, decoder_keys
from lrc.models.decoder_tensors import Names, Outside, decoder_tensors
from lrc.models.gpt_block import GptBlock, GptLayers
from lrc.models.gpt_keys import HARMLESS, SPELLED
from lrc.models.tensors import Tensors
from lrc.nn.ops import AddPositions, Attend, Op

KEYS = decoder_keys(
    "gpt2",
    used=("scale_attn_weights", "scale_attn_by_inverse_layer_idx"),
    harmless=HARMLESS,
    spelled=SPELLED | NO_ROTARY,
)
DEFAULTS = Defaults(
    bos_id=50256,
    max_positions=1024,
    eps=1e-5,
    tied=True,
    widening=4,
    activation="gelu_new",
)
LAYERS = GptLayers(("attn.c_attn",), "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
NORMS = ("ln_1", "ln_2")
BASE = "transformer."
NAMES = Names(block=BASE + "h.{}.", embedding=BASE + "wte", final_norm=BASE + "ln_f", base=BASE)
MASKS = ("attn.bias", "attn.masked_bias")
POSITIONS = "positions"


@dataclass(frozen=True)
class Gpt2Config(DecoderConfig):
    """Shapes and constants of a GPT-2 model.

    ``scaled_by_layer``: whether scores are divided by the number of the block, from 1 on.
    """

    scaled_by_layer: bool

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
        return cls(
            **decoder_fields(config, KEYS, DEFAULTS),
            scale=None if flag(config, "scale_attn_weights", True) else 1.0,
            scaled_by_layer=flag(config, "scale_attn_by_inverse_layer_idx"),
        )


class Gpt2Block(GptBlock):
    """Its two parts one after the other."""

    config: Gpt2Config
    layers = LAYERS
    norms = NORMS

    def attend(self, *values: str) -> Attend:
        """The usual attention, with a scale of the block."""
        usual = super().attend(*values)
        if not self.config.scaled_by_layer:
            return usual
        return replace(usual, scale=usual.factor / (self.index + 1))


def gpt2_tensors(
    config: DecoderConfig,
    layers: GptLayers = LAYERS,
    *,
    biased: Collection[str] = LAYERS.all,
    transposed: Collection[str] = (),
    masks: Collection[str] = MASKS,
) -> Tensors:
    """Every tensor of a checkpoint of GPT-2's kin; see `decoder_tensors`."""
    rows = (config.max_positions, config.hidden)
    return decoder_tensors(
        config,
        sites=layers.sites,
        shapes=layers.shapes,
        biased=biased,
        transposed=transposed,
        norms=dict.fromkeys(NORMS, config.hidden),
        norm_bias=True,
        names=NAMES,
        outside={POSITIONS: Outside(BASE + "wpe.weight", rows)},
        masks=masks,
    )


def tensors(config: Gpt2Config) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return gpt2_tensors(config, transposed=LAYERS.all)


def _positions(config: DecoderConfig, plain: Plain) -> Sequence[Op]:
    return (AddPositions(plain[POSITIONS]),)


ENDS = Ends(_positions, layer_norm_and_head)
GPT2 = DecoderFamily("gpt2", Gpt2Config.from_dict, tensors, Gpt2Block, ENDS)
