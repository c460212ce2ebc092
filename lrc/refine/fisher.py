"""A probe of the Fisher information at a model's own logits: its gradients have that covariance.

At the model itself KL(model || model + change) has no slope; its curvature at the logits of a row
is diag(p) - p p^T, with p the model's distribution. Random signs z make rows of that covariance,
D (I - r r^T) z with r = sqrt(p) and D = diag(r), whose backward passes have the covariance of the
gradients of log p(y) for labels y drawn from p; of all such rows these vary least in length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lrc.refine.divergence import log_softmax
from lrc.refine.vjp import Array


@dataclass(frozen=True)
class FisherProbe:
    """Random rows g of covariance diag(p) - p p^T, as the gradient of a loss at the logits.

    Attributes
    ----------
    seeds : sequence of int sequences
        Of the random signs, for each part of the batch; a row's signs are those of its place in
        the part, whatever else is in the batch.
    scored : slice
        Which tokens of each sequence count.

    Notes
    -----
    Law: E[g g^T] = diag(p) - p p^T, and 1^T g = 0 for every draw. Source: the Fisher information of
    a categorical distribution; sampling by signs after Hutchinson (1989).
    """

    seeds: Sequence[Sequence[int]]
    scored: slice = field(default_factory=lambda: slice(None))

    def __call__(self, part: int, rows: slice, logits: Array) -> tuple[float, Array]:
        """0 and the gradient at the logits (work) of some rows; there is no loss to be had."""
        log_p = log_softmax(logits)
        log_p *= log_p.dtype.type(0.5)
        root = np.exp(log_p, out=log_p)
        signs = _signs((*self.seeds[part], rows.start), root.shape).astype(root.dtype)
        along = np.einsum("ij,ij->i", root, signs)[:, None]
        signs -= root * along
        root *= signs
        return 0.0, root


def _signs(seed: Sequence[int], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Random signs +-1, from one bit each."""
    count = int(np.prod(shape))
    bits = np.unpackbits(np.frombuffer(np.random.default_rng(seed).bytes(-(-count // 8)), np.uint8))
    return (1 - 2 * bits[:count].astype(np.int8)).reshape(shape)
