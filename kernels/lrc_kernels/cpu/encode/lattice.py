"""E8P: exact nearest points and decoding.

The search for E8P uses that rows 0-226 of the table are seven whole orbits of the permutation
group: ``(3/2)^t (1/2)^(8-t)`` for t = 0..4 and ``(5/2) (3/2)^t (1/2)^(7-t)`` for t = 0, 1. By
the rearrangement inequality the best member of an orbit pairs the sorted ``|y|`` with the
sorted pattern, and a wrong parity of signs is repaired most cheaply at the smallest ``|y|``.
So one sorting network and seven scores replace 227 * 128 distances; the 29 rows of squared
norm 12 are scanned only when the bound of their whole orbit beats the best of the seven.

``y = x - shift``; the squared distance of ``x`` to ``s + shift`` is ``|x|^2`` plus a constant
minus ``score = 2 <y, s> - |s|^2 + 2 * shift * sum(x)``.

Vectors are handled 64 at a time, coordinate by coordinate, so that each inner loop runs over
64 neighbouring lanes and becomes SIMD code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import lattice_tables as tables
from lrc_kernels._jit import njit

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]

LANES = 64
FIRST_WIDE_ROW = 227
# Batcher's odd-even merge network for 8 keys: 19 comparators.
_NETWORK = np.array(
    [
        (0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (1, 2), (5, 6),
        (0, 4), (1, 5), (2, 6), (3, 7), (2, 4), (3, 5), (1, 2), (3, 4), (5, 6),
    ],
    np.int64,
)  # fmt: skip


@njit()
def _load(z: F32, start: int, count: int, x: F32) -> None:
    """Transpose ``z[start : start + count]`` into ``x (8, LANES)``; idle lanes become zero."""
    for lane in range(count):
        for i in range(8):
            x[i, lane] = z[start + lane, i]
    for lane in range(count, LANES):
        for i in range(8):
            x[i, lane] = 0.0


@njit()
def _magnitudes(x: F32, shift: np.float32, a: F32, odd: I32) -> None:
    """Write ``a = |x - shift|`` and ``odd`` = parity of the number of negative entries."""
    for lane in range(LANES):
        odd[lane] = 0
    for i in range(8):
        for lane in range(LANES):
            y = x[i, lane] - shift
            negative = y < np.float32(0)
            a[i, lane] = -y if negative else y
            odd[lane] ^= np.int32(negative)


@njit()
def _sort_descending(a: F32, network: NDArray[np.int64]) -> None:
    for step in range(network.shape[0]):
        upper = a[network[step, 0]]
        lower = a[network[step, 1]]
        for lane in range(LANES):
            p = upper[lane]
            q = lower[lane]
            upper[lane] = p if p > q else q
            lower[lane] = q if p > q else p


@njit()
def _score_orbits(a: F32, odd: I32, offset: F32, score: F32, orbit: I32, bound: F32) -> None:
    """Best of the seven orbits per lane, and the bound of the orbit of squared norm 12.

    ``a`` is sorted; ``offset`` is ``2 * shift * sum(x)``. Orbits 0-4 have that many 3/2, orbits
    5 and 6 have a 5/2 and zero or one 3/2.
    """
    for lane in range(LANES):
        total = a[0, lane] + a[1, lane] + a[2, lane] + a[3, lane]
        total += a[4, lane] + a[5, lane] + a[6, lane] + a[7, lane]
        total += offset[lane]
        repair = np.float32(2) * a[7, lane]
        even_cost = repair if odd[lane] == 1 else np.float32(0)
        odd_cost = np.float32(0) if odd[lane] == 1 else repair
        even_total = total - even_cost
        odd_total = total - odd_cost
        top = np.float32(2) * a[0, lane]
        best = even_total - np.float32(2)
        which = np.int32(0)
        new = odd_total + top - np.float32(4)
        which = np.int32(1) if new > best else which
        best = new if new > best else best
        top1 = top + np.float32(2) * a[1, lane]
        new = even_total + top1 - np.float32(6)
        which = np.int32(2) if new > best else which
        best = new if new > best else best
        top2 = top1 + np.float32(2) * a[2, lane]
        new = odd_total + top2 - np.float32(8)
        which = np.int32(3) if new > best else which
        best = new if new > best else best
        top3 = top2 + np.float32(2) * a[3, lane]
        new = even_total + top3 - np.float32(10)
        which = np.int32(4) if new > best else which
        best = new if new > best else best
        new = even_total + top + top - np.float32(8)
        which = np.int32(5) if new > best else which
        best = new if new > best else best
        new = odd_total + top + top1 - np.float32(10)
        which = np.int32(6) if new > best else which
        best = new if new > best else best
        score[lane] = best
        orbit[lane] = which
        bound[lane] = odd_total + top3 + np.float32(2) * a[4, lane] - np.float32(12)


@njit()
def _keep_better(score: F32, orbit: I32, bound: F32, best: F32, chosen: I32, wide: F32) -> None:
    """Fold the second shift (-1/4) into the results of the first; orbits 8.. mean that shift."""
    for lane in range(LANES):
        better = score[lane] > best[lane]
        best[lane] = score[lane] if better else best[lane]
        chosen[lane] = orbit[lane] + np.int32(8) if better else chosen[lane]
        wide[lane] = bound[lane] if bound[lane] > wide[lane] else wide[lane]


@njit()
def _ranks(x: F32, chosen: I32, a: F32, odd: I32, rank: I32) -> None:
    """Rank 0 (largest) to 7 of each ``|x - shift|`` under the chosen shift; ties by index."""
    for lane in range(LANES):
        odd[lane] = 0
    for i in range(8):
        for lane in range(LANES):
            y = x[i, lane] - (np.float32(-0.25) if chosen[lane] > 7 else np.float32(0.25))
            negative = y < np.float32(0)
            a[i, lane] = -y if negative else y
            odd[lane] ^= np.int32(negative)
            rank[i, lane] = i
    for i in range(8):
        for j in range(i):
            first = a[j]
            second = a[i]
            rank_first = rank[j]
            rank_second = rank[i]
            for lane in range(LANES):
                larger = np.int32(second[lane] > first[lane])
                rank_first[lane] += larger
                rank_second[lane] -= larger


@njit()
def _assemble(x: F32, chosen: I32, odd: I32, rank: I32, row_key: I32, low: I32) -> None:
    """Write the key into the table of rows and the low byte of the code."""
    for lane in range(LANES):
        row_key[lane] = 0
        low[lane] = np.int32(1) if chosen[lane] > 7 else np.int32(0)
    for i in range(8):
        for lane in range(LANES):
            orbit = chosen[lane] & np.int32(7)
            five = orbit > 4
            large = orbit - np.int32(4) if five else orbit
            threes = orbit - np.int32(5) if five else orbit
            place = rank[i, lane]
            key = np.int32(1 << i) if place < large else np.int32(0)
            key += np.int32(256 * (i + 1)) if (five and place == 0) else np.int32(0)
            row_key[lane] += key
            y = x[i, lane] - (np.float32(-0.25) if chosen[lane] > 7 else np.float32(0.25))
            negative = np.int32(y < np.float32(0))
            repair = (threes ^ odd[lane]) & np.int32(1)
            negative ^= repair if place == 7 else np.int32(0)
            low[lane] |= negative << np.int32(i) if i > 0 else np.int32(0)


@njit()
def _scan_wide(x: F32, lane: int, best: np.float32, triples: NDArray[np.int64], a: F32) -> int:
    """Code of the best row of squared norm 12 in one lane if it beats ``best``, else -1."""
    code = -1
    for minus in range(2):
        shift = np.float32(-0.25) if minus else np.float32(0.25)
        total = np.float32(0)
        coordinate_sum = np.float32(0)
        signs = 0
        odd = 0
        for i in range(8):
            y = x[i, lane] - shift
            coordinate_sum += x[i, lane]
            if y < 0:
                signs |= 1 << i
                odd ^= 1
                y = -y
            a[i] = y
            total += y
        base = np.float32(3) * total + np.float32(2) * shift * coordinate_sum - np.float32(12)
        for index in range(triples.shape[0]):
            i, j, k = triples[index]
            new = base - np.float32(2) * (a[i] + a[j] + a[k])
            if new <= best:
                continue
            flips = signs
            if odd == 0:
                cheapest = np.float32(np.inf)
                place = 0
                for c in range(8):
                    weight = np.float32(0.5) if c in (i, j, k) else np.float32(1.5)
                    if weight * a[c] < cheapest:
                        cheapest = weight * a[c]
                        place = c
                new -= np.float32(4) * cheapest
                flips ^= 1 << place
            if new > best:
                best = new
                code = ((FIRST_WIDE_ROW + index) << 8) | (flips & 254) | minus
    return code


@njit()
def _encode_e8p(
    z: F32, row_index: U8, triples: NDArray[np.int64], network: NDArray[np.int64], codes: U16
) -> None:
    floats = np.empty((16, LANES), np.float32)
    x = floats[:8]
    a = floats[8:]
    work = np.empty((5, LANES), np.float32)
    best, score, wide, bound, offset = work[0], work[1], work[2], work[3], work[4]
    ints = np.empty((5, LANES), np.int32)
    chosen, orbit, odd, row_key, low = ints[0], ints[1], ints[2], ints[3], ints[4]
    rank = np.empty((8, LANES), np.int32)
    scratch = np.empty(8, np.float32)
    for start in range(0, z.shape[0], LANES):
        count = min(LANES, z.shape[0] - start)
        _load(z, start, count, x)
        for lane in range(LANES):
            offset[lane] = 0
        for i in range(8):
            for lane in range(LANES):
                offset[lane] += np.float32(0.5) * x[i, lane]
        _magnitudes(x, np.float32(0.25), a, odd)
        _sort_descending(a, network)
        _score_orbits(a, odd, offset, best, chosen, wide)
        for lane in range(LANES):
            offset[lane] = -offset[lane]
        _magnitudes(x, np.float32(-0.25), a, odd)
        _sort_descending(a, network)
        _score_orbits(a, odd, offset, score, orbit, bound)
        _keep_better(score, orbit, bound, best, chosen, wide)
        _ranks(x, chosen, a, odd, rank)
        _assemble(x, chosen, odd, rank, row_key, low)
        for lane in range(count):
            code = -1
            if wide[lane] > best[lane]:
                code = _scan_wide(x, lane, best[lane], triples, scratch)
            if code < 0:
                key = row_key[lane]
                code = (np.int64(row_index[key >> 8, key & 255]) << 8) | low[lane]
            codes[start + lane] = code


@njit()
def _decode_e8p(codes: U16, rows: F32, signs: F32, shifts: F32, out: F32) -> None:
    for n in range(codes.shape[0]):
        row = codes[n] >> 8
        low = codes[n] & 255
        for i in range(8):
            out[n, i] = rows[row, i] * signs[low, i] + shifts[low]


def encode_e8p(z: F32) -> U16:
    """Nearest E8P point of each row of ``z`` f32 (N, 8): codes u16 (N,)."""
    if z.ndim != 2 or z.shape[1] != 8:
        raise ValueError(f"lattice vectors have shape (N, 8), not {z.shape}")
    codes = np.empty(z.shape[0], np.uint16)
    _encode_e8p(
        np.ascontiguousarray(z, np.float32),
        tables.e8p_row_index(),
        tables.wide_triples(),
        _NETWORK,
        codes,
    )
    return codes


def decode_e8p(codes: U16) -> F32:
    """Points of ``codes`` u16 (N,): f32 (N, 8)."""
    out = np.empty((codes.shape[0], 8), np.float32)
    _decode_e8p(
        np.ascontiguousarray(codes, np.uint16),
        tables.e8p_signed_rows(),
        tables.e8p_signs(),
        tables.e8p_shifts(),
        out,
    )
    return out
