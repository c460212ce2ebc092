"""Sigmoid functions of vectors: logistic, hyperbolic tangent, normal distribution.

Like :mod:`lrc_kernels.simd.math`: floats are computed in a fixed order, the same on every path.
A number that is none stays none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.simd.math import absolute, exp_f32
from lrc_kernels.simd.values import F32X16, call, operation, splat_f32x16


@operation(F32X16, F32X16, F32X16, F32X16, F32X16)
def _where_below(builder: Any, value: Any, bound: Any, below: Any, other: Any) -> Any:
    """Lane by lane: ``below`` where ``value < bound`` or is no number, else ``other``."""
    return builder.select(builder.fcmp_unordered("<", value, bound), below, other)


@operation(F32X16, F32X16, F32X16)
def _with_sign(builder: Any, value: Any, sign: Any) -> Any:
    """Magnitudes of ``value`` with signs of ``sign``."""
    return call(builder, "llvm.copysign.v16f32", F32X16.ir, [value, sign])


@njit(inline=True)
def _all(number: float) -> Any:
    return splat_f32x16(np.float32(number))


@njit(inline=True)
def logistic_f32(x: Any) -> Any:
    """``1 / (1 + exp(-x))`` to about three units in the last place."""
    return _all(1) / (_all(1) + exp_f32(_all(0) - x))


@njit(inline=True)
def tanh_f32(x: Any) -> Any:
    """Hyperbolic tangent to about three units in the last place.

    Near 0 the fifth convergent of Lambert's continued fraction, elsewhere by an exponential.
    """
    square = x * x
    top = _all(945) + square * (_all(105) + square)
    near = x * top / (_all(945) + square * (_all(420) + square * _all(15)))
    size = absolute(x)
    far = _all(1) - _all(2) / (exp_f32(size + size) + _all(1))
    return _where_below(size, _all(0.625), near, _with_sign(far, x))


@njit(inline=True)
def normal_f32(x: Any) -> Any:
    """Normal distribution function, with an absolute error below 3e-7.

    Hastings' fifth polynomial for the error function (Abramowitz and Stegun, 7.1.26), whose own
    error is 1.5e-7 of the complement.
    """
    size = absolute(x) * _all(0.5**0.5)
    t = _all(1) / (_all(1) + _all(0.3275911) * size)
    total = _all(-1.453152027) + t * _all(1.061405429)
    total = _all(-0.284496736) + t * (_all(1.421413741) + t * total)
    total = t * (_all(0.254829592) + t * total)
    tail = _all(0.5) * total * exp_f32(_all(0) - size * size)
    return _where_below(x, _all(0), tail, _all(1) - tail)
