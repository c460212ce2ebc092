"""What the blocks of state-space families share: names of tensors, and the convolution."""

from __future__ import annotations

import numpy as np

from lrc.models.block import ProgramBlock
from lrc.models.decoder_tensors import Names
from lrc.models.state_space_config import StateSpaceConfig
from lrc.nn.state_space import Convolve

NAMES = Names("backbone.layers.{}.", "backbone.embeddings", "lm_head", "backbone.norm_f")
_TAPS, _BIAS = "mixer.conv1d.weight", "mixer.conv1d.bias"


def convolution_tensors(config: StateSpaceConfig, channels: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a block's convolution, by name."""
    taps: dict[str, tuple[int, ...]] = {_TAPS: (channels, 1, config.taps)}
    return taps | ({_BIAS: (channels,)} if config.conv_bias else {})


def convolution(block: ProgramBlock, value: str) -> Convolve:
    """The convolution of a block, of each channel of ``value`` by itself."""
    taps = np.ascontiguousarray(block.plain[_TAPS][:, 0].T)
    return Convolve(value, taps, block.plain.get(_BIAS), f"{block.index}.inputs")
