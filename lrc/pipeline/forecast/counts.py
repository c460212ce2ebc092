"""What a compression has of tokens, streams and weights: counted from shapes alone."""

from __future__ import annotations

import math

from lrc.calibrate.corpus import window_length
from lrc.models.base import Model
from lrc.models.tensors import weight_of
from lrc.spec import CompressSpec

#: Bytes of a float32.
F32 = 4


def tokens_of(model: Model, spec: CompressSpec) -> int:
    """Tokens of calibration, where all windows that are asked for can be had."""
    windows = 1 if spec.calibration.imatrix else spec.calibration.nsamples
    return windows * window_length(spec.calibration, model.context)


def streams_of(spec: CompressSpec) -> int:
    """How many run: the original's too where it enters targets."""
    calibration = spec.calibration
    wanted = calibration.mix > 0 or calibration.repair > 0 or spec.distil.epochs > 0
    return 2 if wanted and calibration.streams != "original" else 1


def activations_of(model: Model, spec: CompressSpec) -> int:
    """Bytes of all streams: the residual stream, and the widest of what else sites read."""
    widest = max(n for _, n in shapes_of(model))
    wide = model.hidden_size + max(widest, model.hidden_size)
    return F32 * streams_of(spec) * tokens_of(model, spec) * wide


def shapes_of(model: Model) -> list[tuple[int, int]]:
    """Sides (m, n) of all matrices."""
    found = (model.tensors.shape(weight_of(name)) for name in model.tensors.matrices)
    return [(m, n) for m, n in found]


def block_bytes(model: Model) -> int:
    """Of the largest block, as float32."""
    blocks: dict[int, int] = {}
    for name, matrix in model.tensors.matrices.items():
        size = math.prod(model.tensors.shape(weight_of(name)))
        blocks[matrix.block] = blocks.get(matrix.block, 0) + size
    return F32 * max(blocks.values())
