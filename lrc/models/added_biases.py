"""Biases that a compressed model has, and the model that it was made from may not have.

They lie beside the weights of linear layers as ``NAME.bias``, and ``config.json``, which is the
original's, knows nothing of them.
"""

from __future__ import annotations

import dataclasses

from lrc.models.source import WeightSource
from lrc.models.tensors import Plain, Tensor, Tensors, bias_key, bias_of, weight_of


def with_added_biases(tensors: Tensors, source: WeightSource) -> Tensors:
    """Tensors of a configuration, with the biases that a compressed ``source`` has beside them."""
    if not source.is_as_read:  # of files that others wrote, the configuration says what there is
        return tensors
    added = {}
    for name, matrix in tensors.matrices.items():
        bias = bias_of(name)
        if bias not in tensors.read and source.has(bias):
            rows = tensors.shape(weight_of(name))[:1]
            added[bias] = Tensor(rows, Plain(matrix.block, bias_key(matrix)))
    return dataclasses.replace(tensors, read={**tensors.read, **added}, added=frozenset(added))
