"""The loss of feature distillation: how far a student's features are from its teacher's."""

from __future__ import annotations

import numpy as np

from lrc.refine.vjp import Array


def feature_loss(found: Array, target: Array) -> tuple[float, Array]:
    """Sum over rows of mean_j |f_j - t_j| - log sigmoid(cos(f, t)), and its gradient at f.

    Parameters
    ----------
    found, target : float arrays, shape (rows, d)
        f of the student and t of the teacher; the gradient has their dtype.

    Notes
    -----
    Where f is t in an entry the gradient of |f - t| is taken as 0, and that of the cosine where a
    row is zero. Cost O(rows d). Source: Lillama, arXiv 2412.16719.
    """
    difference = found - target
    of_found, of_target = (_norms(rows) for rows in (found, target))
    cosine = np.einsum("ij,ij->i", found, target)[:, None] / (of_found * of_target)
    loss = np.abs(difference).mean(axis=1) + np.log1p(np.exp(-cosine[:, 0]))
    gradient = np.sign(difference) / found.dtype.type(found.shape[1])
    slope = 1 / (1 + np.exp(cosine))  # 1 - sigmoid(cos)
    gradient -= slope * (target / of_target - cosine * (found / of_found)) / of_found
    return float(loss.sum(dtype=np.float64)), gradient


def _norms(rows: Array) -> Array:
    """Lengths (rows, 1), no zero among them."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.where(lengths > 0, lengths, 1).astype(rows.dtype)
