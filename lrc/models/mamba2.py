"""Mamba-2: heads of a scan that decay as one, gated and then normalised (Dao and Gu, 2024).

Computed as the recurrence that defines it. The limits of step sizes hold for every token; some
programs leave them out where they decode token by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lrc.errors import FormatError
from lrc.models.base import Site
from lrc.models.block import ProgramBlock
from lrc.models.config_reader import count
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.state_space import NAMES, convolution, convolution_tensors, decay
from lrc.models.state_space_config import StateSpaceConfig, state_space_fields, state_space_keys
from lrc.models.tensors import Tensors
from lrc.nn.ops import STREAM, Add, Gate, Norm, Op, Split
from lrc.nn.ssd import SsdScan
from lrc.nn.state_space import Softplus

KEYS = state_space_keys(
    "mamba2",
    used=("num_heads", "head_dim", "n_groups", "time_step_limit"),
    harmless={
        "chunk_size": "says how the same result is computed",
        "time_step_rank": "is read by Mamba alone",
        "intermediate_size": "expand says it",
        "norm_before_gate": "the gate comes before the norm, whatever it says",
    },
)
SITES = (
    Site("mixer_input", ("mixer.in_proj",)),
    Site("mixer_output", ("mixer.out_proj",), writes=True),
)
#: Where transformers writes a number that JSON lacks.
_FLOAT = "__float__"


@dataclass(frozen=True)
class Mamba2Config(StateSpaceConfig):
    """Shapes and constants of a Mamba-2 model; heads of one of the ``groups`` share B and C."""

    heads: int
    head_dim: int
    groups: int
    least_step: float
    most_step: float

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
        fields = state_space_fields(config, KEYS, states=128, tied=False)
        heads, dim = count(config, "num_heads", 128), count(config, "head_dim", 64)
        groups = count(config, "n_groups", 8)
        if heads * dim != fields["inner"]:
            raise FormatError(
                f"config.json: num_heads={heads} of head_dim={dim} must be hidden_size times "
                f"expand, {fields['inner']}"
            )
        if heads % groups:
            raise FormatError(
                f"config.json: num_heads={heads} must be a multiple of n_groups={groups}"
            )
        least, most = _limits(config.get("time_step_limit"))
        return cls(
            **fields, heads=heads, head_dim=dim, groups=groups, least_step=least, most_step=most
        )

    @property
    def convolved(self) -> int:
        """Channels of the convolution: x, B and C."""
        return self.inner + 2 * self.groups * self.states


def _limits(given: Any) -> tuple[float, float]:
    """The least and the largest step size."""
    if given is None:
        return 0.0, np.inf
    wanted = "must be two numbers from 0 on, in ascending order"
    try:
        least, most = (float(x[_FLOAT] if isinstance(x, Mapping) else x) for x in given)
    except (TypeError, ValueError, KeyError):
        raise FormatError(f"config.json: time_step_limit={given!r} {wanted}") from None
    if not 0 <= least < most:
        raise FormatError(f"config.json: time_step_limit={given!r} {wanted}")
    return least, most


def tensors(config: Mamba2Config) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    scan: dict[str, tuple[int, ...]] = dict.fromkeys(
        ("mixer.A_log", "mixer.D", "mixer.dt_bias"), (config.heads,)
    )
    return decoder_tensors(
        config,
        sites=SITES,
        shapes=_linear_shapes,
        biased=("mixer.in_proj", "mixer.out_proj") if config.bias else (),
        norms={"norm": config.hidden, "mixer.norm": config.inner},
        inside=scan | convolution_tensors(config, config.convolved),
        names=NAMES,
    )


def _linear_shapes(config: Mamba2Config) -> dict[str, tuple[int, int]]:
    return {
        "mixer.in_proj": (config.inner + config.convolved + config.heads, config.hidden),
        "mixer.out_proj": (config.hidden, config.inner),
    }


@dataclass(frozen=True)
class Mamba2Block(ProgramBlock):
    """Norm, one matrix for all that the scan needs, convolution, scan, gate, norm."""

    config: Mamba2Config

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those of the two matrices."""
        return SITES

    def program(self) -> Sequence[Op]:
        """See the class."""
        c, p = self.config, self.plain
        shared = c.groups * c.states
        return (
            Norm(p["norm"], STREAM, "n", c.eps),
            self.multiply(0, "n", "all"),
            Split("all", ("gate", "xBC", "dt"), (c.inner, c.convolved, c.heads)),
            convolution(self, "xBC"),
            Split("xBC", ("x", "B", "C"), (c.inner, shared, shared)),
            Softplus("dt", p["mixer.dt_bias"], c.least_step, c.most_step),
            SsdScan(
                "x", "dt", "B", "C", "y", decay(self), p["mixer.D"], c.head_dim,
                c.states, c.groups, f"{self.index}.scan",
            ),
            Gate("gate", "y"),
            Norm(p["mixer.norm"].reshape(c.groups, -1), "gate", "y", c.eps),
            self.multiply(1, "y", "y"),
            Add("y"),
        )  # fmt: skip


MAMBA2 = DecoderFamily("mamba2", Mamba2Config.from_dict, tensors, Mamba2Block)
