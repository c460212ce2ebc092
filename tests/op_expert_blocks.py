"""Blocks like those of `op_blocks`, of experts and with states."""

from __future__ import annotations

import numpy as np
from op_blocks import HIDDEN, WIDE, attention, gated, linear, norm

from lrc.nn.ops import STREAM, Add, Gate, Multiply, Norm, Scale, Split
from lrc.nn.routing import Combine, Dispatch, Route, SigmoidGate
from lrc.nn.ssd import SsdScan
from lrc.nn.state_space import Convolve, SelectiveScan, Softplus

EXPERTS = 6


def experts(*, top=2, normalised=True, shared=False):
    """Few of six experts a token; which they are is no close call. One for all, if ``shared``."""
    rng = np.random.default_rng(12)
    for layer in range(3):
        first = 100 * layer
        yield from (norm(STREAM, "x"), *attention(first // 100, "x", "y", heads_normed=True))
        yield Add("y")
        yield norm(STREAM, "x")
        weight = rng.normal(0, 1, (EXPERTS, HIDDEN)).astype(np.float32)
        yield Route(weight, "x", "routing", top, normalised)
        for expert in range(EXPERTS):
            dispatch = Dispatch(expert, "x", "routing", "routed")
            yield dispatch
            yield from gated(first + 10 * expert, "routed", "y")
            yield Combine("y", dispatch)
        if shared:
            yield from gated(first + 5, "x", "y")
            yield SigmoidGate(rng.normal(0, 0.2, (1, HIDDEN)).astype(np.float32), "x", "y")
            yield Add("y")


def mixture():
    return list(experts())


def shared_expert():
    return list(experts(top=3, normalised=False, shared=True))


def convolution(layer, value, width):
    rng = np.random.default_rng(layer)
    taps = rng.normal(0, 0.5, (3 + layer, width)).astype(np.float32)
    bias = rng.normal(0, 0.5, width).astype(np.float32) if layer else None
    return Convolve(value, taps, bias, f"inputs {layer}")


def selective():
    """Mamba's: convolution, three matrices that make what the scan needs, scan, gate."""
    states, rng = 5, np.random.default_rng(14)
    return [
        op
        for layer in range(2)
        for op in (
            norm(STREAM, "n"),
            Multiply((linear(2 * WIDE, HIDDEN, layer),), "n", ("both",)),
            Split("both", ("x", "gate"), (WIDE, WIDE)),
            Scale("x", 0.1),
            convolution(layer, "x", WIDE),
            Multiply((linear(HIDDEN, WIDE, layer + 5),), "x", ("made",)),
            Scale("made", 0.1),
            Split("made", ("dt", "B", "C"), (HIDDEN - 2 * states, states, states)),
            Multiply((linear(WIDE, HIDDEN - 2 * states, layer + 7, bias=True),), "dt", ("dt",)),
            Scale("dt", 0.05),
            Softplus("dt"),
            SelectiveScan(
                "x", "dt", "B", "C", "y", -rng.uniform(0.1, 2, (states, WIDE)).astype(np.float32),
                rng.normal(0, 1, WIDE).astype(np.float32), f"h {layer}",
            ),
            Gate("gate", "y"),
            Multiply((linear(HIDDEN, WIDE, layer + 8),), "gate", ("y",)),
            Scale("y", 0.2),
            Add("y"),
        )
    ]  # fmt: skip


def by_heads():
    """Mamba-2's: steps and decays of heads, in two groups; steps have limits."""
    heads, dim, states, groups, rng = 6, 8, 7, 2, np.random.default_rng(15)
    shared = groups * states
    widths = (heads * dim, heads * dim + 2 * shared, heads)
    return [
        op
        for layer in range(2)
        for op in (
            norm(STREAM, "n"),
            Multiply((linear(sum(widths) + 14, HIDDEN, layer),), "n", ("all",)),
            Scale("all", 0.1),
            Split("all", ("gate", "xBC", "dt", "rest"), (*widths, 14)),
            convolution(layer, "xBC", widths[1]),
            Split("xBC", ("x", "B", "C"), (heads * dim, shared, shared)),
            Softplus("dt", rng.normal(0, 1, heads).astype(np.float32), 0.1, 1.5),
            SsdScan(
                "x", "dt", "B", "C", "y", -rng.uniform(0.1, 2, heads).astype(np.float32),
                rng.normal(0, 1, heads).astype(np.float32), dim, states, groups, f"h {layer}",
            ),
            Gate("gate", "y"),
            Norm(rng.uniform(0.5, 1.5, (groups, heads * dim // groups)).astype(np.float32),
                 "gate", "y", 1e-5),
            Multiply((linear(HIDDEN, heads * dim, layer + 8),), "y", ("y",)),
            Scale("y", 0.2),
            Add("y"),
        )
    ]  # fmt: skip


EXPERT_CASES = [mixture, shared_expert]
STATE_CASES = [selective, by_heads]
