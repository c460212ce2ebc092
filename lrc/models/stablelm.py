"""StableLM: Llama with layer norms and partial rotary positions (Bellagente et al., 2024).

Both parts of a block may read one norm, and each head of queries and keys may have a norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lrc.models.config_reader import flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import LAYER_NORM_ENDS
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_tensors import NORMS, decoder_tensors
from lrc.models.tensors import Tensors
from lrc.nn.ops import Norm, Op

KEYS = decoder_keys(
    "stablelm",
    used=("partial_rotary_factor", "use_qkv_bias", "qk_layernorm", "use_parallel_residual"),
    spelled={"rms_norm_eps": "layer_norm_eps", "head_dim": None},
)
DEFAULTS = Defaults(
    kv_heads=32, bos_id=0, max_positions=4096, eps=1e-5, rotary=Rotary(partial=0.25)
)
BIASED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


@dataclass(frozen=True)
class StableLmConfig(DecoderConfig):
    """Shapes and constants of a StableLM model.

    ``bias``: of queries, keys and values. ``head_norms``: of each head of queries and keys.
    ``parallel``: whether the parts of a block are side by side.
    """

    bias: bool
    head_norms: bool
    parallel: bool

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
            bias=flag(config, "use_qkv_bias"),
            head_norms=flag(config, "qk_layernorm"),
            parallel=flag(config, "use_parallel_residual"),
        )


class StableLmBlock(DecoderBlock):
    """Its two parts one after the other, or side by side after the same norm."""

    config: StableLmConfig
    norm_kind = "layer"

    def program(self) -> Sequence[Op]:
        """See the class."""
        return self.side_by_side(NORMS[0]) if self.config.parallel else super().program()

    def positions(self) -> Sequence[Op]:
        """Rotation, after a norm of each head where there is one."""
        norms = [self._head_norms(name) for name in "qk"] if self.config.head_norms else []
        return (*norms, *super().positions())

    def _head_norms(self, name: str) -> Norm:
        weight = np.stack([self.plain[key] for key in head_norms(name, self.config)])
        return Norm(weight, name, name, self.config.eps, self.norm_kind)


def head_norms(name: str, config: StableLmConfig) -> list[str]:
    """Keys of the norms of all heads of queries, "q", or keys, "k"."""
    heads = {"q": config.heads, "k": config.kv_heads}[name]
    return [f"self_attn.{name}_layernorm.norms.{i}.weight" for i in range(heads)]


def tensors(config: StableLmConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    of_heads = [key for name in "qk" for key in head_norms(name, config)]
    return decoder_tensors(
        config,
        biased=BIASED if config.bias else (),
        norms=dict.fromkeys(NORMS[:1] if config.parallel else NORMS, config.hidden),
        norm_bias=True,
        inside=dict.fromkeys(of_heads if config.head_norms else (), (config.head_dim,)),
    )


STABLELM = DecoderFamily(
    "stablelm", StableLmConfig.from_dict, tensors, StableLmBlock, LAYER_NORM_ENDS
)
