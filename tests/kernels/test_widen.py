"""Widening of 16-bit weights: exact on every finite value there is."""

import numpy as np
import pytest

from lrc_kernels.cpu.codes.widen import widen_rows

EVERY = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).reshape(64, 1024)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_every_finite_value_is_exact(kind):
    expected = (EVERY.astype(np.uint32) << 16).view(np.float32)
    values = EVERY
    if kind == "float16":
        values = EVERY.view(np.float16)
        expected = values.astype(np.float32)
    finite = np.isfinite(expected)
    out = np.full(EVERY.shape, 7, np.float32)
    widen_rows(values, out)
    assert finite.mean() > 0.9
    np.testing.assert_array_equal(out[finite].view(np.uint32), expected[finite].view(np.uint32))


def test_other_shapes_and_types_are_refused():
    out = np.empty((2, 3), np.float32)
    for values in (np.zeros((3, 2), np.float16), np.zeros((2, 6), np.float16)[:, ::2]):
        with pytest.raises(ValueError, match="alike and contiguous"):
            widen_rows(values, out)
    with pytest.raises(ValueError, match="float64, not float16"):
        widen_rows(np.zeros((2, 3)), out)
