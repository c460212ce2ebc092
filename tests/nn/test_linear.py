"""Dense layers whose weights come later."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_llama import tiny_model

from lrc.nn.linear import DenseLinear, LaterLinear

W = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)


def test_a_weight_is_read_once_and_when_it_is_looked_at() -> None:
    reads = []

    def read() -> np.ndarray:
        reads.append(1)
        return W

    bias = np.ones(3, np.float32)
    later = LaterLinear(read, (3, 5), bias)
    assert later.shape == (3, 5)
    assert not reads
    x = np.ones((2, 5), np.float32)
    np.testing.assert_array_equal(later(x), DenseLinear(W, bias)(x))
    assert later.weight is W
    assert len(reads) == 1
    with pytest.raises(AttributeError, match="other"):
        later.other  # noqa: B018


def test_a_model_that_is_no_checkpoint_is_read_at_once() -> None:
    block = tiny_model().stacks[0].load_block(0, later=True)
    assert not any(isinstance(linear, LaterLinear) for linear in block.linears.values())
