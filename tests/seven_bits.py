"""The rule for 7-bit activations in plain NumPy, and layers that follow it."""

from __future__ import annotations

import numpy as np

from lrc.nn.execution import PLAIN
from lrc.nn.packed import PackedLinear
from lrc_kernels.cpu.dot import matvec_i8

GROUP = 64


def cost(x, z=None):
    """What rounding z f32 (n,), a rotation of x or x itself, may cost; below 1 it is allowed.

    The expected error of 8-bit steps in groups of 64, root mean square, beside a 32nd of the mean
    magnitude of x without the largest of its entries i, i + 16, i + 32, ... for each i.
    """
    x, z = np.float64(x), np.float64(x if z is None else z)
    n = len(x)
    lanes = np.pad(np.abs(x), (0, -n % 16)).reshape(-1, 16)
    mean = (lanes.sum() - lanes.max(axis=0).sum()) / n
    squares = sum(len(g) * np.abs(g).max() ** 2 for g in np.split(z, range(GROUP, n, GROUP)))
    error = np.sqrt(squares / n / 12) / 127
    return error / (mean / 32)


class RoundedLinear(PackedLinear):
    """A packed layer whose inputs are rounded to 7 bits each, where the rule allows it."""

    def _rotate(self, x, execution):
        z = super()._rotate(x, execution)
        for given, row in zip(x.reshape(z.shape), z, strict=True):
            if cost(given, row) <= 1:
                q, s = matvec_i8.quantize(row, True).values()
                row[:] = q * np.repeat(s, GROUP)[: len(row)]
        return z

    def apply_with(self, others, x, execution=PLAIN):
        """Each by itself."""
        return [f(x, execution) for f in (self, *others)]
