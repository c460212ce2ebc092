"""Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: Llama with fused matrices (Abdin et al., 2024).

One matrix holds queries, keys and values, one the gate and what it gates. Rotary positions may be
those of LongRoPE, part of each head may be rotated, and blocks may see a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import UnsupportedModelError
from lrc.models.base import Site
from lrc.models.config_reader import count
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.decoder_windows import Windows
from lrc.models.tensors import Tensors
from lrc.nn.ops import Gate, Op, Split

KEYS = decoder_keys(
    "phi3",
    used=("partial_rotary_factor", "sliding_window"),
    off={
        "full_attn_mod": (None, 1),
        "interpolate_factor": (None, 1),
        "lm_head_bias": (None, False),
    },
    own_code=("configuration_phi3", "modeling_phi3"),
)
DEFAULTS = Defaults(
    bos_id=1, max_positions=4096, eps=1e-5, rotary=Rotary(partial=1.0, original=4096)
)
SITES = (
    Site("attn_input", ("self_attn.qkv_proj",)),
    Site("attn_output", ("self_attn.o_proj",), writes=True),
    Site("mlp_input", ("mlp.gate_up_proj",)),
    Site("mlp_output", ("mlp.down_proj",), writes=True),
)
ROTATIONS = ("default", "longrope")


@dataclass(frozen=True)
class Phi3Config(DecoderConfig):
    """Shapes and constants of a Phi-3 model."""

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
        read = cls(**decoder_fields(config, KEYS, DEFAULTS, Windows(window)))
        kind = read.rope.scaling.kind if read.rope else ROTATIONS[0]
        if kind not in ROTATIONS:
            raise UnsupportedModelError(
                f"config.json: rope_type={kind!r} is not known for a phi3 model; "
                f"only {' and '.join(ROTATIONS)} are"
            )
        return read


class FusedGateBlock(DecoderBlock):
    """Llama's, the gate and what it gates from one matrix."""

    def feed_forward(self, source: str, target: str) -> Sequence[Op]:
        """All of the gate, then all that it gates."""
        widths = (self.config.intermediate,) * 2
        return (
            self.multiply(2, source, "gate_up"),
            Split("gate_up", ("gate", "up"), widths),
            Gate("gate", "up", self.config.activation),
            self.multiply(3, "gate", target),
        )


class Phi3Block(FusedGateBlock):
    """Queries, keys and values are from one matrix, too."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """One matrix each."""
        return SITES

    def projections(self, source: str) -> Sequence[Op]:
        """Queries, then keys, then values of all heads."""
        c = self.config
        widths = tuple(heads * c.head_dim for heads in (c.heads, c.kv_heads, c.kv_heads))
        return self.multiply(0, source, "qkv"), Split("qkv", ("q", "k", "v"), widths)


def shapes(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """(m, n) of each linear layer of a block."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, wide = config.hidden, config.intermediate
    return {
        "self_attn.qkv_proj": (queries + 2 * keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_up_proj": (2 * wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }


def tensors(config: Phi3Config) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(config, sites=SITES, shapes=shapes)


PHI3 = DecoderFamily("phi3", Phi3Config.from_dict, tensors, Phi3Block)
