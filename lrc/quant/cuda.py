"""LDLQ and polish on a CUDA device: of trellises in tiles of one column, that of the CPU elsewhere.

The search is the CPU's bit for bit, and so are the products inside a column panel; sums over the
columns beyond are rounded in cuBLAS's order, so codes may differ from the CPU's. A polish searches
whole rings, where the CPU's compiled loops keep the bits that there are at a cut.
"""

from __future__ import annotations

import numpy as np

from lrc.errors import SpecError
from lrc.linalg.diagonal_plus_low_rank import Moment
from lrc.linalg.running_product import Feedback
from lrc.quant.base import F32, Quantizer
from lrc.quant.ldlq import COLUMN_PANEL, Grid, Rounded, block_inverses
from lrc_kernels.trellis_fixed import RingCode


def require_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises
    ------
    SpecError
        With the reason, and what to do.
    """
    if device == "cpu":
        return
    from lrc_kernels.gpu.device import cupy

    try:
        cupy()
    except RuntimeError as error:
        raise SpecError(f"device {device} is not there: {error}, or use device cpu") from None


def device_note(device: str) -> str | None:
    """What a report says of a device; None of the CPU."""
    if device == "cpu":
        return None
    from lrc_kernels.gpu.device import device_name

    return (
        f"device {device} ({device_name()}): sums are rounded in another order than on the CPU, "
        "so bytes may differ from the CPU's"
    )


def ring_code(quantizer: Quantizer, moment: object) -> RingCode | None:
    """The code of a quantizer that works on the device; None where only the CPU knows how.

    Trellises have one scale a row or a matrix, so that tiles of one column are all it takes.
    ``moment`` is the second moment or the feedback: of low rank it stays on the CPU.
    """
    code: RingCode | None = getattr(quantizer, "ring_code", None)
    return code if quantizer.block_size == 1 and isinstance(moment, np.ndarray) else None


def ldlq(W: F32, feedback: Feedback, grid: Grid) -> Rounded | None:
    """:func:`lrc.quant.ldlq.ldlq` on the device; None where only the CPU knows how."""
    code = ring_code(grid.quantizer, feedback)
    if code is None or not isinstance(feedback, np.ndarray):
        return None
    from lrc_kernels.gpu.rings import ldlq_rings

    states, values = ldlq_rings(W, feedback, grid.scale, code, COLUMN_PANEL)
    return Rounded((states[:, :, None],), values)


def polish(W: F32, rounded: Rounded, H: Moment, grid: Grid, sweeps: int) -> Rounded | None:
    """:func:`lrc.quant.ldlq.polish` without dither on the device; None as above."""
    code = ring_code(grid.quantizer, H)
    if code is None or not isinstance(H, np.ndarray):
        return None
    from lrc_kernels.gpu.rings import polish_rings

    inverse = np.concatenate(block_inverses(H, 1), axis=None).astype(np.float32, copy=False)
    states, values = polish_rings(
        W, rounded.codes[0][:, :, 0], rounded.values, H, inverse, grid.scale, code,
        COLUMN_PANEL, sweeps,
    )  # fmt: skip
    return Rounded((states[:, :, None],), values)
