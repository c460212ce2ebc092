"""Mamba: blocks of a causal convolution and a selective scan (Gu and Dao, 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.base import Site
from lrc.models.block import ProgramBlock
from lrc.models.config_reader import ConfigKeys, count
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.state_space import NAMES, convolution, convolution_tensors, decay
from lrc.models.state_space_config import StateSpaceConfig, state_space_fields, state_space_keys
from lrc.models.tensors import Tensors
from lrc.nn.ops import STREAM, Add, Gate, Norm, Op, Split
from lrc.nn.state_space import SelectiveScan, Softplus

KEYS = state_space_keys("mamba", used=("time_step_rank", "intermediate_size"))
SITES = (
    Site("mixer_input", ("mixer.in_proj",)),
    Site("scan_input", ("mixer.x_proj",)),
    Site("step_input", ("mixer.dt_proj",)),
    Site("mixer_output", ("mixer.out_proj",), writes=True),
)
#: What ``time_step_rank`` is by default: a number for each so many channels of the stream.
AUTO, CHANNELS_PER_RANK = "auto", 16


@dataclass(frozen=True)
class MambaConfig(StateSpaceConfig):
    """Shapes and constants of a Mamba model; ``rank``: numbers that step sizes are made of."""

    rank: int

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
        return cls(**mamba_fields(config, KEYS))


def mamba_fields(config: Mapping[str, Any], keys: ConfigKeys) -> dict[str, Any]:
    """Read the fields of `MambaConfig`; errors are those of `MambaConfig.from_dict`."""
    fields = state_space_fields(config, keys, states=16, tied=True)
    auto = -(-fields["hidden"] // CHANNELS_PER_RANK)
    given = config.get("time_step_rank")
    rank = auto if given == AUTO else count(config, "time_step_rank", auto)
    return fields | {"inner": count(config, "intermediate_size", fields["inner"]), "rank": rank}


def tensors(config: MambaConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    ends = ("mixer.in_proj", "mixer.out_proj") if config.bias else ()
    scan: dict[str, tuple[int, ...]] = {
        "mixer.A_log": (config.inner, config.states),
        "mixer.D": (config.inner,),
    }
    return decoder_tensors(
        config,
        sites=SITES,
        shapes=_linear_shapes,
        biased=("mixer.dt_proj", *ends),
        norms={"norm": config.hidden},
        inside=scan | convolution_tensors(config, config.inner),
        names=NAMES,
    )


def _linear_shapes(config: MambaConfig) -> dict[str, tuple[int, int]]:
    return {
        "mixer.in_proj": (2 * config.inner, config.hidden),
        "mixer.x_proj": (config.rank + 2 * config.states, config.inner),
        "mixer.dt_proj": (config.inner, config.rank),
        "mixer.out_proj": (config.hidden, config.inner),
    }


@dataclass(frozen=True)
class MambaBlock(ProgramBlock):
    """Norm, two branches from one matrix: convolution and scan, gated by the other one."""

    config: MambaConfig

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those of the four matrices."""
        return SITES

    def program(self) -> Sequence[Op]:
        """See the class."""
        c = self.config
        return (
            Norm(self.plain["norm"], STREAM, "n", c.eps),
            self.multiply(0, "n", "both"),
            Split("both", ("x", "gate"), (c.inner, c.inner)),
            convolution(self, "x"),
            self.multiply(1, "x", "steps_and_states"),
            Split("steps_and_states", ("dt", "B", "C"), (c.rank, c.states, c.states)),
            *self.between(),
            self.multiply(2, "dt", "dt"),
            Softplus("dt"),
            SelectiveScan(
                "x", "dt", "B", "C", "y", decay(self), self.plain["mixer.D"], f"{self.index}.scan"
            ),
            Gate("gate", "y"),
            self.multiply(3, "gate", "y"),
            Add("y"),
        )  # fmt: skip

    def between(self) -> Sequence[Op]:
        """What happens to dt, B and C before they are used."""
        return ()


MAMBA = DecoderFamily("mamba", MambaConfig.from_dict, tensors, MambaBlock)
