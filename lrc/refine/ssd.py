"""Backward pass of Mamba-2's scan, as the products that it is (Dao and Gu, 2024, section 6).

A head's y is (M o C BT) (dt x) + D x with M_ts = exp(sum of dt A over s < r <= t) for s <= t: no
state is computed. Memory: some matrices of T^2 numbers, for one head of one sequence at a time.
"""

from __future__ import annotations

import numpy as np

from lrc.nn.ops import Op, Pass, Values
from lrc.nn.ssd import SsdScan
from lrc.refine.vjp import Array, Asked, Named, Pulled, Rule, Step
from lrc_kernels import scan_reference


def ssd_scan(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of every head by itself; those of a group add to the gradients at its B and C."""
    op: SsdScan = step.op
    given = [step.found[name] for name in op.reads]
    x, dt, B, C = _by_head(op, *given)
    g = grads[0].reshape(x.shape)
    made = [np.zeros_like(v) for v in (x, dt, B, C)]
    totals = {name: np.zeros_like(getattr(op, name), x.dtype) for name in ("decay", "skip")}
    of_group = len(op.decay) // op.groups
    for b in range(len(x)):
        for h in range(len(op.decay)):
            one, two, own = (b, slice(None), h), (b, slice(None), h // of_group), op.decay[h]
            found = _one_head(x[one], dt[one], B[two], C[two], g[one], own)
            made[0][one] = found[0] + op.skip[h] * g[one]
            made[1][one] = found[1]
            made[2][two] += found[2]
            made[3][two] += found[3]
            totals["decay"][h] += found[4]
            totals["skip"][h] += np.vdot(g[one], x[one])
    named: Named = {name: value for name, value in totals.items() if name in asked}
    return Pulled(tuple(v.reshape(w.shape) for v, w in zip(made, given, strict=True)), named)


def _by_head(op: SsdScan, x: Array, dt: Array, B: Array, C: Array) -> tuple[Array, ...]:
    """X (B, T, heads, head_dim); B and C (B, T, groups, size)."""
    grouped = (v.reshape(*v.shape[:2], op.groups, op.size) for v in (B, C))
    return (x.reshape(*dt.shape, op.head_dim), dt, *grouped)


def _one_head(
    x: Array, dt: Array, B: Array, C: Array, g: Array, decay: np.floating
) -> tuple[Array, Array, Array, Array, np.floating]:
    """Gradients at x (T, channels), dt (T,), B and C (T, states), and A, without D's part."""
    exponents = np.cumsum(dt * decay, dtype=np.float64)  # their differences matter
    gaps = exponents[:, None] - exponents
    M = np.exp(np.tril(gaps, -1)).astype(x.dtype)
    M *= np.tril(np.ones_like(M))
    driven = dt[:, None] * x
    mixing = M * (C @ B.T)
    of_mixing = g @ driven.T
    of_products = of_mixing * M
    of_gaps = of_mixing * mixing
    of_exponents = of_gaps.sum(axis=1) - of_gaps.sum(axis=0)
    reached = np.cumsum(of_exponents[::-1])[::-1]  # each step is in all later exponents
    into = mixing.T @ g
    of_dt = np.vecdot(into, x) + decay * reached
    return dt[:, None] * into, of_dt, of_products.T @ C, of_products @ B, np.vdot(reached, dt)


def _wide_ssd(op: SsdScan, values: Values, at: Pass) -> tuple[Array, ...]:
    x, dt, B, C = _by_head(op, *(values[name] for name in op.reads))
    of_group = len(op.decay) // op.groups
    y = np.empty(x.shape)
    for b in range(len(x)):
        for group in range(op.groups):
            own = slice(group * of_group, (group + 1) * of_group)
            before = np.zeros((of_group, op.size, op.head_dim))
            y[b, :, own], _ = scan_reference.ssd_scan(
                x[b, :, own], dt[b, :, own], op.decay[own], B[b, :, group], C[b, :, group],
                op.skip[own], before,
            )  # fmt: skip
    return (y.reshape(*dt.shape[:2], -1),)


RULES: dict[type[Op], Rule] = {SsdScan: Rule(ssd_scan, ("decay", "skip"), _wide_ssd)}
