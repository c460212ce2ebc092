"""Falcon Mamba: Mamba that normalises dt, B and C (Zuo et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lrc.models.config_reader import number
from lrc.models.decoder import DecoderFamily
from lrc.models.mamba import MambaBlock, MambaConfig, mamba_fields, tensors
from lrc.models.state_space_config import state_space_keys
from lrc.nn.ops import Norm, Op

KEYS = state_space_keys(
    "falcon_mamba",
    used=("time_step_rank", "intermediate_size", "mixer_rms_eps"),
    harmless={"use_falcon_mambapy": "says how the same result is computed"},
)


@dataclass(frozen=True)
class FalconMambaConfig(MambaConfig):
    """Shapes and constants of a Falcon Mamba model; ``scan_eps``: of the norms of dt, B and C."""

    scan_eps: float

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
        return cls(**mamba_fields(config, KEYS), scan_eps=number(config, "mixer_rms_eps", 1e-6))


@dataclass(frozen=True)
class FalconMambaBlock(MambaBlock):
    """That of Mamba, with an RMSNorm without weights of each input of the scan."""

    config: FalconMambaConfig

    def between(self) -> Sequence[Op]:
        """The norms."""
        c = self.config
        widths = {"dt": c.rank, "B": c.states, "C": c.states}
        return [Norm(np.ones(n, np.float32), x, x, c.scan_eps) for x, n in widths.items()]


FALCON_MAMBA = DecoderFamily("falcon_mamba", FalconMambaConfig.from_dict, tensors, FalconMambaBlock)
