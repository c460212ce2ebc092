"""Scales of ggml's blocks: those of least weighted squared error, as whole multiples of d.

A stretch of weights x has a scale s and, where the grid is affine, a min m: x ~ s v[c] - m. Sizes
from a list are tried, codes are rounded, and s and m follow from them by least squares; the best
are then brought to whole multiples of d and dmin, where a block has several stretches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.ggml import scaled
from lrc.codebooks.ggml_layout import F16, Blocks, Layout
from lrc.quant.base import F32
from lrc_kernels.backend import get_kernels

#: Sizes that are tried, beside that which the largest weight just reaches.
_REACHES = (1.06, 1.0, 0.94, 0.88, 0.82, 0.76, 0.7)
_FINE_REACHES = (1.0, 0.985)
_UNITS = (1.0, 0.985, 1.015, 0.97, 1.03, 0.95, 1.05)


class Fit(NamedTuple):
    """Scales and mins of stretches, f32 (..., stretches), and how much each counts.

    ``curvature`` is half the second derivative of the loss by the scale, ``weight`` that by the
    min.
    """

    scale: F32
    low: F32
    curvature: F32
    weight: F32


def fit_blocks(X: F32, weights: F32, layout: Layout, table: F32) -> Blocks:
    """Scales of blocks ``X`` f32 (..., block), and the nearest codes under them.

    Parameters
    ----------
    weights
        f32, of a shape that broadcasts against X: what the squared error of a weight counts.
    table
        Values of the codes.
    """
    lead = X.shape[:-1]
    x = X.reshape(*lead, layout.count, layout.stretch)
    w = np.broadcast_to(weights, X.shape).reshape(x.shape)
    affine = layout.has("dmin")
    found = _affine(x, w, table, free=layout.negated) if affine else _symmetric(x, w, table)
    d, scales = whole_multiples(found.scale, found.curvature, *layout.range("scales"))
    if layout.negated:
        mins, dmin = np.ones(scales.shape, np.uint8), as_half(found.low[..., 0])
    elif affine:
        dmin, whole = whole_multiples(found.low, found.weight, *layout.range("mins"))
        mins = whole.astype(np.uint8)
    else:
        mins, dmin = np.zeros(scales.shape, np.uint8), np.zeros(lead, np.float16)
    blocks = Blocks(np.zeros(X.shape, np.uint8), scales.astype(np.int8), mins, d, dmin)
    return nearest_codes(X, blocks, layout, table)


def nearest_codes(X: F32, blocks: Blocks, layout: Layout, table: F32) -> Blocks:
    """The blocks with the nearest codes of ``X`` under their scales."""
    scale, offset = scaled(blocks, layout.stretch)
    return blocks._replace(codes=nearest(X, scale, offset, table))


def nearest(X: F32, scale: F32, offset: F32, table: F32) -> NDArray[np.uint8]:
    """Codes u8 of ``X`` ~ scale table[c] - offset, all of one shape; 0's where scale is 0."""
    wanted = np.divide(X + offset, scale, out=np.zeros_like(X), where=scale != 0)
    if table[-1] - table[0] == len(table) - 1:  # whole numbers
        wanted -= table[0]
        least = 1 if len(table) == 256 else 0  # -128 has no counterpart, and ggml never writes it
        whole: NDArray[np.uint8] = np.rint(wanted).clip(least, len(table) - 1).astype(np.uint8)
        return whole
    flat = np.ascontiguousarray(wanted.reshape(-1, wanted.shape[-1]))
    codes: NDArray[np.uint8] = get_kernels().nearest_level(flat, table).reshape(X.shape)
    return codes


def as_half(values: F32) -> F16:
    """The nearest float16 that is finite."""
    most = np.float32(np.finfo(np.float16).max)
    with np.errstate(under="ignore"):
        return np.clip(values, -most, most).astype(np.float16)


def _symmetric(x: F32, w: F32, table: F32) -> Fit:
    """Scales of either sign."""
    most = np.take_along_axis(x, np.abs(x).argmax(axis=-1)[..., None], axis=-1)[..., 0]
    best = np.zeros(most.shape, np.float32)
    gain = np.zeros(most.shape, np.float32)
    curvature = np.full(most.shape, 1e-30, np.float32)
    zero = np.zeros((), np.float32)
    for end in (table[0], table[-1]):
        for reach in _reaches(len(table)):
            scale = (most * np.float32(reach) / end)[..., None]
            values = table[nearest(x, np.broadcast_to(scale, x.shape), zero, table)]
            cross = np.einsum("...i,...i,...i->...", w, x, values)
            square = np.einsum("...i,...i,...i->...", w, values, values)
            own = np.divide(cross, square, out=np.zeros_like(cross), where=square > 0)
            better = own * cross > gain
            best, gain = np.where(better, own, best), np.where(better, own * cross, gain)
            curvature = np.where(better, square, curvature)
    return Fit(best, np.zeros_like(best), curvature, curvature)


def _affine(x: F32, w: F32, table: F32, *, free: bool) -> Fit:
    """Scales that are positive, and mins that are too unless they are ``free``."""
    top, low = x.max(axis=-1), x.min(axis=-1)
    if not free:
        top, low = np.maximum(top, 0), np.minimum(low, 0)
    total = w.sum(axis=-1)
    mean = np.einsum("...i,...i->...", w, x)
    best = Fit(np.zeros_like(top), -low, np.full_like(top, 1e-30), total)
    least = np.einsum("...i,...i->...", w, np.square(x - low[..., None]))
    edges = (0.0,) if len(table) > 16 else (0.0, 0.06, 0.12, 0.2)
    for reach in _reaches(len(table)):
        for edge in edges:
            first = low * np.float32(1 - edge) + top * np.float32(0.3 * edge if free else 0)
            scale = (top * np.float32(reach) - first) / table[-1]
            shift = -first
            for _ in range(2):
                wide = np.broadcast_to(scale[..., None], x.shape)
                values = table[nearest(x, wide, shift[..., None], table)]
                scale, shift = _line(x, w, values, total, mean, free=free)
                error = x - scale[..., None] * values + shift[..., None]
                loss = np.einsum("...i,...i,...i->...", w, error, error)
                better = loss < least
                least = np.where(better, loss, least)
                square = np.einsum("...i,...i,...i->...", w, values, values)
                fresh = Fit(scale, shift, np.maximum(square, 1e-30), total)
                best = Fit(*(np.where(better, a, b) for a, b in zip(fresh, best, strict=True)))
    return best


def _line(x: F32, w: F32, values: F32, total: F32, mean: F32, *, free: bool) -> tuple[F32, F32]:
    """Scale and min of least weighted error for given values of codes."""
    first = np.einsum("...i,...i->...", w, values)
    second = np.einsum("...i,...i,...i->...", w, values, values)
    cross = np.einsum("...i,...i,...i->...", w, x, values)
    spread = total * second - first * first
    level = np.maximum(spread, 1e-30)
    scale = np.where(spread > 0, (total * cross - first * mean) / level, 0)
    low = np.where(spread > 0, (first * cross - second * mean) / level, -mean / total)
    if not free:
        alone = np.divide(cross, second, out=np.zeros_like(cross), where=second > 0)
        scale, low = np.where(low < 0, alone, scale), np.maximum(low, 0)
    return np.maximum(scale, 0).astype(np.float32), low.astype(np.float32)


def _reaches(count: int) -> tuple[float, ...]:
    return _REACHES if count <= 16 else _REACHES[1:4] if count <= 64 else _FINE_REACHES


def whole_multiples(
    scale: F32, weight: F32, least: int, most: int, step: int = 1
) -> tuple[F16, F32]:
    """The float16 unit (...,) and whole multiples f32 (..., stretches) that come nearest.

    Multiples are ``least``, ``least + step`` and so on up to ``most``.
    """
    if least == most:
        return as_half(scale[..., 0]), np.ones_like(scale)
    at = np.abs(scale).argmax(axis=-1)[..., None]
    largest = np.take_along_axis(scale, at, axis=-1)[..., 0]
    found = np.zeros(largest.shape, np.float16)
    whole = np.zeros_like(scale)
    loss = np.full(largest.shape, np.inf, np.float32)
    for end in (least, most) if least else (most,):
        for reach in _UNITS:
            unit = largest * np.float32(reach) / np.float32(end)
            for _ in range(2):
                stored = as_half(unit)
                wide = stored.astype(np.float32)[..., None]
                near = np.divide(scale, wide, out=np.zeros_like(scale), where=wide != 0)
                near = near if step == 1 else (near - least) / step
                near = np.rint(near) if step == 1 else np.rint(near) * step + least
                near = np.clip(near, least, most)
                error = np.einsum("...i,...i->...", weight, np.square(scale - wide * near))
                better = error < loss
                loss = np.where(better, error, loss)
                found = np.where(better, stored, found)
                whole = np.where(better[..., None], near, whole)
                square = np.einsum("...i,...i->...", weight, near * near)
                cross = np.einsum("...i,...i,...i->...", weight, near, scale)
                unit = np.divide(cross, square, out=np.zeros_like(cross), where=square > 0)
    return found, whole
