"""What tests of the compiled loops have in common."""

from __future__ import annotations

import copy

import numpy as np

from lrc_kernels.cpu.dot.product import ORDERS
from lrc_kernels.cpu.transform.activations import SEVEN


def assert_close(found, expected, worst=2.0**-5):
    """15 bits; a few positions of a random model magnify what rounding its activations costs."""
    errors = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert errors.max() < worst
    assert errors.size == 1 or np.median(errors) < 2.0**-10


def on_15_bits(engine):
    """Let a decode engine take all activations as pairs of bytes, those of trellises too."""
    program = copy.copy(engine._program)
    program.mats = program.mats.copy()
    program.mats[:, ORDERS] &= ~SEVEN
    engine._program = program
