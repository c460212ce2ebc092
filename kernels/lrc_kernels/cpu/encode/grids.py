"""Codes of vectors on a grid of magnitudes with an even number of negative signs, and their scales.

A weight is ``d s table[c]``: codes count the ``half`` magnitudes from the largest negative one up.
Eight weights share signs, and are a point of ``points`` f32 (width, count) or two; ``digits`` u8
(count, width) are the numbers of their magnitudes. Rows are independent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.cpu.encode.scaled import (
    UNITS_EVERY,
    add_change,
    gain_of,
    move_units,
    try_numbers,
    value_of,
)

F32 = NDArray[np.float32]
I16 = NDArray[np.int16]
U8 = NDArray[np.uint8]

#: Weights that share signs.
SIGNED = 8


@njit(inline=True)
def _least(costs: F32) -> Any:
    best = 0
    for c in range(1, costs.shape[0]):
        if costs[c] < costs[best]:
            best = c
    return best


@njit(inline=True)
def _cheapest(linear: F32, points: F32, first: Any, c: Any) -> Any:
    """Which of the signs of point c is flipped at the least cost."""
    best = 0
    for j in range(1, points.shape[0]):
        if linear[first + j] * points[j, c] < linear[first + best] * points[best, c]:
            best = j
    return best


@njit()
def nearest_eight(
    z: F32, weights: F32, scale: Any, points: F32, digits: U8, half: Any, costs_work: F32,
    codes_work: U8,
) -> None:  # fmt: skip
    """Write the codes u8 (8,) of the point times ``scale`` that is nearest to z f32 (8,).

    Exact: signs are those of z, or where those are of odd number one is flipped, and what each
    point then costs is compared.

    Parameters
    ----------
    weights : float32 (8,)
        What squared errors count, at least 0.
    scale : float32
        At least 0.
    half : int
        Magnitudes.
    costs_work : float32 (2, count)
        Room to work in.
    """
    width, count = points.shape
    parts, odd = SIGNED // width, False
    square, linear = np.empty(SIGNED, np.float32), np.empty(SIGNED, np.float32)
    for j in range(SIGNED):
        square[j] = weights[j] * scale * scale
        linear[j] = np.float32(2) * weights[j] * scale * abs(z[j])
        odd ^= z[j] < 0
    chosen, flip = np.zeros(2, np.int64), -1
    flipped_part, flipped_point, least = 0, 0, np.float32(np.inf)
    own, flipped = costs_work[0], costs_work[1]
    for part in range(parts):
        first = width * part
        own[:] = 0
        for j in range(width):
            a, b = square[first + j], linear[first + j]
            for c in range(count):
                own[c] += points[j, c] * (a * points[j, c] - b)
        chosen[part] = _least(own)
        if odd:
            flipped[:] = np.inf
            for j in range(width):
                b = np.float32(2) * linear[first + j]
                for c in range(count):
                    flipped[c] = min(flipped[c], b * points[j, c])
            for c in range(count):
                flipped[c] += own[c]
            best = _least(flipped)
            # How much more this part costs with a sign flipped.
            more = flipped[best] - own[chosen[part]]
            if part == 0 or more < least:
                flipped_part, flipped_point, least = part, best, more
    if odd:
        chosen[flipped_part] = flipped_point
        first = width * flipped_part
        flip = first + _cheapest(linear, points, first, flipped_point)
    for j in range(SIGNED):
        digit = digits[chosen[j // width], j % width]
        codes_work[j] = half - 1 - digit if (z[j] < 0) ^ (j == flip) else half + digit


@njit()
def nearest_points(X: F32, weights: F32, scale: F32, points: F32, digits: U8, half: int) -> U8:
    """Codes u8 of X f32 (rows, n) under ``scale`` f32 (rows, stretches); n is whole eights."""
    rows, n = X.shape
    stretch = n // scale.shape[1]
    codes, costs = np.empty((rows, n), np.uint8), np.empty((2, points.shape[1]), np.float32)
    for i in range(rows):
        for a in range(0, n, SIGNED):
            z = a + SIGNED
            nearest_eight(X[i, a:z], weights[i, a:z], scale[i, a // stretch], points, digits, half,
                          costs, codes[i, a:z])  # fmt: skip
    return codes


@njit()
def fit_stretches(
    X: F32, weights: F32, reaches: F32, points: F32, digits: U8, half: int, table: F32
) -> tuple[F32, F32]:
    """Scales f32 (rows,) of least weighted error of stretches X f32 (rows, stretch).

    Scales that bring the largest weight to ``reaches`` times the largest value are tried, and
    those which follow by least squares, once more.

    Returns
    -------
    float32 (rows,) twice
        Scales, and half the second derivatives of the loss by them.
    """
    rows, n = X.shape
    best, curvature = np.zeros(rows, np.float32), np.full(rows, np.float32(1e-30))
    codes, costs = np.empty(n, np.uint8), np.empty((2, points.shape[1]), np.float32)
    for i in range(rows):
        most, gain = np.float32(0), np.float32(0)
        for j in range(n):
            most = max(most, abs(X[i, j]))
        if most == 0:
            continue
        # The last time from the best scale so far.
        for k in range(reaches.shape[0] + 1):
            scale = best[i]
            if k < reaches.shape[0]:
                scale = most * reaches[k] / table[-1]
            for a in range(0, n, SIGNED):
                nearest_eight(X[i, a : a + SIGNED], weights[i, a : a + SIGNED], scale, points,
                              digits, half, costs, codes[a : a + SIGNED])  # fmt: skip
            cross, square = np.float32(0), np.float32(0)
            for j in range(n):
                value = table[codes[j]]
                cross += weights[i, j] * X[i, j] * value
                square += weights[i, j] * value * value
            if cross > 0 and square > 0 and cross * cross / square > gain:
                gain = cross * cross / square
                best[i], curvature[i] = cross / square, square
    return best, curvature


@njit()
def round_points(
    W: F32, target: F32, within: F32, weights: F32, d: F32, s: I16, points: F32, digits: U8,
    half: int, table: F32,
) -> U8:  # fmt: skip
    """Codes u8 (m, size) of one block from the last eight columns to the first.

    Parameters
    ----------
    W, target : float32 (m, size)
        Weights, and what feedback from later blocks has made of them.
    within : float32 (size, size)
        Strictly lower: feedback inside the block.
    weights : float32 (size,)
        What the squared error of a column counts, where those before it in its eight follow it.
    d : float32 (m,)
    s : int16 (m, stretches)
    """
    rows, size = W.shape
    stretch = size // s.shape[1]
    codes, costs = np.empty((rows, size), np.uint8), np.empty((2, points.shape[1]), np.float32)
    moved = np.empty(size, np.float32)
    for i in range(rows):
        moved[:] = target[i]
        for a in range(size - SIGNED, -1, -SIGNED):
            # Where each column of the eight would lie if those behind it could be anything.
            for j in range(a + SIGNED - 1, a, -1):
                for q in range(a, j):
                    moved[q] += (W[i, j] - moved[j]) * within[j, q]
            scale = d[i] * np.float32(s[i, a // stretch])
            nearest_eight(moved[a : a + SIGNED], weights[a : a + SIGNED], scale, points, digits,
                          half, costs, codes[i, a : a + SIGNED])  # fmt: skip
            for j in range(a, a + SIGNED):
                error = W[i, j] - scale * table[codes[i, j]]
                for q in range(a):
                    moved[q] += error * within[j, q]
    return codes


@njit()
def polish_points(
    gradient: F32, H: F32, inverses: F32, table: F32, points: F32, digits: U8, half: int,
    range_s: tuple[int, int], step: int, sweeps: int,
    codes_work: U8, s_work: I16, d_work: F32, values_work: F32,
) -> int:  # fmt: skip
    """Descent on codes of eight columns, on scales and on d; a move is made only if the loss falls.

    Parameters
    ----------
    gradient : float32 (m, n)
        (W - values) H.
    inverses : float32 (n / 8, 8, 8)
        Those of the diagonal blocks of H.
    range_s : two ints
        Least and largest s; ``step``: between neighbours.
    codes_work u8, values_work float32 (m, n), s_work int16 (m, stretches), d_work float32 \
    (m, blocks)
        Where to begin, and what is found.

    Returns
    -------
    int
        Moves made.
    """
    rows, n = gradient.shape
    stretch, block = n // s_work.shape[1], n // d_work.shape[1]
    g, delta = np.empty(n, np.float64), np.zeros(n, np.float64)
    wanted, weights = np.empty(SIGNED, np.float32), np.empty(SIGNED, np.float32)
    fresh, costs = np.empty(SIGNED, np.uint8), np.empty((2, points.shape[1]), np.float32)
    no_mins = np.zeros(s_work.shape[1], np.int16)
    no_dmin = np.zeros(d_work.shape[1], np.float32)
    total = 0
    for i in range(rows):
        g[:] = gradient[i]
        codes, values, s = codes_work[i], values_work[i], s_work[i]
        for sweep in range(sweeps):
            moved = 0
            for b in range(d_work.shape[1] - 1, -1, -1):
                for k in range((b + 1) * block // stretch - 1, b * block // stretch - 1, -1):
                    a, z = k * stretch, (k + 1) * stretch
                    scale = d_work[i, b] * np.float32(s[k])
                    for e in range(z - SIGNED, a - 1, -SIGNED):
                        for j in range(SIGNED):
                            weights[j] = max(H[e + j, e + j], np.float32(0))
                            wanted[j] = values[e + j]
                            for q in range(SIGNED):
                                wanted[j] += np.float32(g[e + q]) * inverses[e // SIGNED, q, j]
                        nearest_eight(wanted, weights, scale, points, digits, half, costs, fresh)
                        for j in range(SIGNED):
                            value = np.float64(scale * table[fresh[j]])
                            delta[e + j] = value - np.float64(values[e + j])
                        if gain_of(H, g, delta, e, e + SIGNED) > 0:
                            add_change(H, g, values, delta, e, e + SIGNED)
                            codes[e : e + SIGNED] = fresh
                            moved += 1
                    for way in range(2):
                        ds = (step, -step)[way]
                        if not range_s[0] <= s[k] + ds <= range_s[1]:
                            continue
                        gain = try_numbers(
                            H, g, values, codes, table, stretch, a, z,
                            d_work[i, b], s, no_dmin[b], no_mins, k, ds, 0, delta,
                        )  # fmt: skip
                        if gain > 0:
                            add_change(H, g, values, delta, a, z)
                            s[k] += ds
                            moved += 1
                if sweep % UNITS_EVERY == 0:
                    moved += move_units(
                        H, g, values, codes, table, stretch, b * block, (b + 1) * block,
                        s, no_mins, d_work[i], no_dmin, b, delta,
                    )  # fmt: skip
            total += moved
            if moved == 0:
                break
        for j in range(n):  # sums of changes are rounded: say what the numbers stand for
            k, b = j // stretch, j // block
            values[j] = value_of(d_work[i, b], s[k], table[codes[j]], np.float32(0), no_mins[k])
    return total
