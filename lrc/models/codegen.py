"""CodeGen: GPT-J with a fused matrix of queries, values and keys (Nijkamp et al., 2022).

The matrix holds four stretches, as the models were trained on four devices: each has its part of
the queries, then of the values, then of the keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import FormatError
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig
from lrc.models.decoder_ends import LAYER_NORM_ENDS
from lrc.models.decoder_keys import NO_ROTARY, decoder_keys
from lrc.models.gpt_block import GptLayers
from lrc.models.gpt_keys import SPELLED
from lrc.models.gptj import OWN_HARMLESS, GptjBlock, gptj_fields, gptj_tensors
from lrc.models.tensors import Tensors
from lrc.nn.ops import Op, Split

KEYS = decoder_keys(
    "codegen", used=("rotary_dim",), harmless=OWN_HARMLESS, spelled=SPELLED | NO_ROTARY
)
LAYERS = GptLayers(("attn.qkv_proj",), "attn.out_proj", "mlp.fc_in", "mlp.fc_out")
MASKS = ("attn.causal_mask", "attn.bias", "attn.masked_bias")
STRETCHES = 4


@dataclass(frozen=True)
class CodegenConfig(DecoderConfig):
    """Shapes and constants of a CodeGen model."""

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
        read = cls(**gptj_fields(config, KEYS))
        if read.heads % STRETCHES:
            raise FormatError(f"config.json: n_head={read.heads} must be a multiple of {STRETCHES}")
        return read


class CodegenBlock(GptjBlock):
    """GPT-J's, with a fused matrix."""

    layers = LAYERS

    def projections(self, source: str) -> Sequence[Op]:
        """Queries, values and keys, stretch by stretch."""
        widths = (self.config.hidden // STRETCHES,) * 3
        return self.multiply(0, source, "qvk"), Split("qvk", ("q", "v", "k"), widths, STRETCHES)


def tensors(config: CodegenConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return gptj_tensors(config, LAYERS, MASKS)


CODEGEN = DecoderFamily("codegen", CodegenConfig.from_dict, tensors, CodegenBlock, LAYER_NORM_ENDS)
