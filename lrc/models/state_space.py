"""What the blocks of state-space families share: names of tensors, and the convolution."""

from __future__ import annotations

import numpy as np

from lrc.errors import NumericalError
from lrc.models.block import ProgramBlock
from lrc.models.decoder_tensors import Names
from lrc.models.source import Array
from lrc.models.state_space_config import StateSpaceConfig
from lrc.nn.state_space import Convolve

NAMES = Names("backbone.layers.{}.", "backbone.embeddings", "lm_head", "backbone.norm_f")
_TAPS, _BIAS, _DECAY = "mixer.conv1d.weight", "mixer.conv1d.bias", "mixer.A_log"


def convolution_tensors(config: StateSpaceConfig, channels: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a block's convolution, by name."""
    taps: dict[str, tuple[int, ...]] = {_TAPS: (channels, 1, config.taps)}
    return taps | ({_BIAS: (channels,)} if config.conv_bias else {})


def convolution(block: ProgramBlock, value: str) -> Convolve:
    """The convolution of a block, of each channel of ``value`` by itself."""
    taps = np.ascontiguousarray(block.plain[_TAPS][:, 0].T)
    return Convolve(value, taps, block.plain.get(_BIAS), f"{block.index}.inputs")


def decay(block: ProgramBlock) -> Array:
    """A of a block's scan, (states, channels) or (heads,), which is negative.

    Raises
    ------
    NumericalError
        It is not finite: kernels would take that for a large number.
    """
    logarithm = block.plain[_DECAY]
    if not np.isfinite(logarithm).all():
        raise NumericalError(
            f"{_DECAY} of block {block.index} has values that are not finite; fetch the model again"
        )
    with np.errstate(over="ignore"):
        A: Array = np.ascontiguousarray(-np.exp(logarithm.T))
    return A
