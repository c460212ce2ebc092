"""Hadamard matrices by construction, and which one divides a given width.

Paley's two constructions (Paley 1933, "On orthogonal matrices") over every finite field,
prime or prime power, doubled by Sylvester's as often as needed. With them every width of the
common language models has a large Hadamard block; widths without one fall back to a smaller
block, in the end to the largest power of two that divides them.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

I8 = NDArray[np.int8]

#: Largest order that is multiplied out densely instead of by butterflies.
MAX_DENSE_ORDER = 2048


def _prime_power(q: int) -> tuple[int, int] | None:
    """``(p, e)`` with ``q = p^e``, or None."""
    if q < 2:
        return None
    p = next((d for d in range(2, int(q**0.5) + 1) if q % d == 0), q)
    e, rest = 0, q
    while rest % p == 0:
        rest //= p
        e += 1
    return (p, e) if rest == 1 else None


def _multiply(
    a: tuple[int, ...], b: tuple[int, ...], modulus: tuple[int, ...], p: int
) -> list[int]:
    """Product of polynomials (lowest coefficient first) modulo ``x^e - modulus`` over GF(p)."""
    e = len(modulus)
    full = [0] * (2 * e - 1)
    for i, u in enumerate(a):
        for j, v in enumerate(b):
            full[i + j] += u * v
    for top in range(2 * e - 2, e - 1, -1):
        for i, m in enumerate(modulus):
            full[top - e + i] += full[top] * m
    return [c % p for c in full[:e]]


def _field(p: int, e: int) -> tuple[list[tuple[int, ...]], list[bool]]:
    """Elements of GF(p^e) as coefficient tuples, and which of them are non-zero squares.

    The modulus is the first monic polynomial, in lexicographic order, for which the powers of
    some element run through the whole group; element 0 is zero.
    """
    elements = [c[::-1] for c in product(range(p), repeat=e)]
    if e == 1:
        squares = {x * x % p for x in range(1, p)}
        return elements, [x in squares for x in range(p)]
    one = (1,) + (0,) * (e - 1)
    for modulus in elements:
        for generator in elements[p : p + 2 * p]:
            power, orbit = one, []
            for _ in range(p**e - 1):
                orbit.append(power)
                power = tuple(_multiply(power, generator, modulus, p))
                if power == one:
                    break
            if len(orbit) == p**e - 1 and power == one:
                squares_of = set(orbit[::2])
                return elements, [x in squares_of for x in elements]
    raise ValueError(f"no primitive polynomial found for GF({p}^{e})")


@cache
def _jacobsthal(q: int) -> I8:
    """``Q_ij = chi(x_i - x_j)``, chi the quadratic character of GF(q): int8 (q, q)."""
    parts = _prime_power(q)
    assert parts is not None
    p, e = parts
    elements, is_square = _field(p, e)
    character = np.where(is_square, 1, -1).astype(np.int8)
    character[0] = 0
    digits = np.array(elements, np.int64)
    difference = (digits[:, None, :] - digits[None, :, :]) % p
    matrix: I8 = character[difference @ (p ** np.arange(e, dtype=np.int64))]
    return matrix


def _paley_field(k: int) -> tuple[int, int] | None:
    """Paley's construction (1 or 2) and the field order that give order ``k``, or None."""
    if k % 4:
        return None
    if _prime_power(k - 1):
        return 1, k - 1
    if (k // 2 - 1) % 4 == 1 and _prime_power(k // 2 - 1):
        return 2, k // 2 - 1
    return None


@cache
def constructible(k: int) -> bool:
    """Whether :func:`hadamard_matrix` can build order ``k``."""
    if k in (1, 2):
        return True
    return k % 4 == 0 and (_paley_field(k) is not None or constructible(k // 2))


@cache
def hadamard_matrix(k: int) -> I8:
    """Return a Hadamard matrix of order ``k``: int8 (k, k) of +-1 with ``H H^T = k I``; read-only.

    Powers of two give Sylvester's symmetric matrix.

    Raises
    ------
    ValueError
        If neither Sylvester's doubling nor Paley's constructions reach ``k``.

    Examples
    --------
    >>> h = hadamard_matrix(12).astype(int)
    >>> bool((h @ h.T == 12 * np.eye(12)).all())
    True
    """
    if not constructible(k):
        raise ValueError(f"no construction for a Hadamard matrix of order {k}")
    if k == 1:
        matrix = np.ones((1, 1), np.int8)
    elif k & (k - 1) and (found := _paley_field(k)) is not None:
        matrix = _paley(*found)
    else:
        matrix = np.kron(np.array([[1, 1], [1, -1]], np.int8), hadamard_matrix(k // 2))
    matrix.setflags(write=False)
    return matrix


def _paley(construction: int, q: int) -> I8:
    """Paley's first (order q + 1) or second (order 2 q + 2) matrix."""
    border = np.zeros((q + 1, q + 1), np.int8)
    border[0, 1:] = 1
    border[1:, 0] = -1 if construction == 1 else 1
    border[1:, 1:] = _jacobsthal(q)
    identity = np.eye(q + 1, dtype=np.int8)
    if construction == 1:
        return border + identity
    return np.kron(border, np.array([[1, 1], [1, -1]], np.int8)) + np.kron(
        identity, np.array([[1, -1], [-1, -1]], np.int8)
    )


@cache
def hadamard_block(n: int) -> tuple[int, int]:
    """Largest constructible order ``block`` that divides ``n``, and its dense part ``K``.

    ``block = K * 2**p`` with the smallest ``K`` that is 1 or a Paley order; ``K`` is at most
    :data:`MAX_DENSE_ORDER`.

    Examples
    --------
    >>> hadamard_block(4096), hadamard_block(11008), hadamard_block(5632), hadamard_block(577)
    ((4096, 1), (11008, 344), (5632, 44), (1, 1))
    """
    if n < 1:
        raise ValueError(f"width {n} must be positive")
    power = n & -n
    best = (power, 1)
    odd = n // power
    for part in (d for d in range(3, odd + 1, 2) if odd % d == 0):
        dense = 4 * part
        while dense <= min(part * power, MAX_DENSE_ORDER):
            if _paley_field(dense) is not None:
                best = max(best, (part * power, dense), key=lambda pair: pair[0])
                break
            dense *= 2
    return best
