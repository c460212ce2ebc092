"""Operations of every kind, with values and a pass for each: what rules are checked on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from packed_cases import random_matrix

from lrc.nn import convolution
from lrc.nn.layers import ACTIVATIONS
from lrc.nn.linear import DenseLinear
from lrc.nn.memory import MEMORY, AttendAll, MultiplyMemory
from lrc.nn.ops import (
    STREAM,
    Activate,
    Add,
    AddPositions,
    Attend,
    Gate,
    Multiply,
    Norm,
    Op,
    Pass,
    Rotate,
    Scale,
    SoftCap,
    Split,
)
from lrc.nn.packed import PackedLinear
from lrc.nn.rope import Growth, Rope
from lrc.nn.rope_scaling import Yarn
from lrc.nn.routing import Combine, Dispatch, Route, SigmoidGate
from lrc.nn.ssd import SsdScan
from lrc.nn.state_space import Convolve, SelectiveScan, Softplus

B, T = 2, 7
RNG = np.random.default_rng(21)


def normal(*shape: int, size: float = 1.0) -> NDArray[np.float32]:
    return (size * RNG.standard_normal(shape)).astype(np.float32)


def positive(*shape: int) -> NDArray[np.float32]:
    return RNG.uniform(0.2, 1.2, shape).astype(np.float32)


@dataclass(frozen=True)
class OpCase:
    """An operation, and what it reads. ``decided``: values whose zeros stay."""

    op: Op
    values: dict[str, NDArray[Any]]
    decided: tuple[str, ...] = ()
    at: Pass = field(default_factory=lambda: Pass(np.arange(3, 3 + T)))


def x(width: int, *names: str, tokens: int = T) -> dict[str, NDArray[np.float32]]:
    return {name: normal(B, tokens, width) for name in names}


def packed(m: int, n: int, seed: int, **options: Any) -> PackedLinear:
    bias = normal(m) if seed % 2 else None
    return PackedLinear(random_matrix((m, n), ("uniform", 4), seed=seed, **options), bias)


def attend(**options: Any) -> OpCase:
    heads, kv_heads, dim = options.pop("heads", 4), options.pop("kv_heads", 2), 6
    op = Attend("q", "k", "v", "y", 0, heads, kv_heads, dim, **options)
    return OpCase(op, x(heads * dim, "q") | x(kv_heads * dim, "k", "v"))


def routing() -> NDArray[np.float32]:
    shares = positive(B, T, 4)
    shares[RNG.random(shares.shape) < 0.5] = 0
    return shares


DISPATCH = Dispatch(2, "x", "routing", "rows")
SHARES = routing()
ROWS = int((SHARES[..., 2] > 0).sum())

CASES: dict[str, OpCase] = {
    "rms": OpCase(Norm(positive(9), "x", "y", 1e-5), x(9, "x")),
    "rms of groups": OpCase(Norm(positive(2, 5), "x", "y", 1e-3), x(10, "x")),
    "rms of heads": OpCase(Norm(positive(5), "x", "x", 1e-3), x(15, "x")),
    "layer norm": OpCase(Norm(positive(9), "x", "y", 1e-5, "layer", normal(9)), x(9, "x")),
    "layer norm of heads": OpCase(Norm(positive(3, 4), "x", "y", 1e-5, "layer"), x(12, "x")),
    "dense": OpCase(
        Multiply(
            (DenseLinear(normal(5, 8), normal(5)), DenseLinear(normal(6, 8))), "x", ("a", "b")
        ),
        x(8, "x"),
    ),
    "packed": OpCase(
        Multiply((packed(12, 20, 3), packed(24, 20, 4, rank=0)), "x", ("a", "b")), x(20, "x")
    ),
    "not rotated": OpCase(
        Multiply((packed(6, 8, 6, rotation="none", rank=3),), "x", ("x",)), x(8, "x")
    ),
    "an expert's": OpCase(
        Multiply((DenseLinear(normal(5, 8)),), "rows", ("a",), DISPATCH),
        {"rows": normal(ROWS, 8), "routing": SHARES, **x(8, "x")},
    ),
    "of the memory": OpCase(
        MultiplyMemory((DenseLinear(normal(5, 8)),), MEMORY, ("a",)), x(8, MEMORY, tokens=11)
    ),
    "split": OpCase(Split("x", ("a", "b"), (3, 5)), x(8, "x")),
    "split of groups": OpCase(Split("x", ("a", "b", "c"), (3, 1, 2), 3), x(18, "x")),
    "rotary": OpCase(Rotate("x", Rope(8)), x(24, "x")),
    "rotary, partial": OpCase(Rotate("x", Rope(4, interleaved=True), 10), x(20, "x")),
    "rotary, stretched": OpCase(
        Rotate("x", Rope(6, 100.0, Yarn(8.0, 16), growth=Growth(0.1, 4))), x(12, "x")
    ),
    "attention": attend(),
    "attention, window": attend(window=3, heads=6, kv_heads=3),
    "attention, capped": attend(cap=1.5, scale=0.8, kv_heads=1),
    "attention, slopes": attend(slopes=(0.5, 0.25, 0.125, 0.06), window=5),
    "attention to all": OpCase(
        AttendAll("q", "k", "v", "y", 4), x(12, "q") | x(12, "k", "v", tokens=11)
    ),
    "add": OpCase(Add("y"), x(5, "y", STREAM)),
    "scale": OpCase(Scale("x", 0.3), x(5, "x")),
    "soft cap": OpCase(SoftCap("x", 1.5), x(5, "x")),
    "learned positions": OpCase(AddPositions(normal(12, 5), 2), x(5, STREAM)),
    **{f"gate {k}": OpCase(Gate("a", "b", k), x(6, "a", "b")) for k in ACTIVATIONS},
    **{f"activation {k}": OpCase(Activate("x", k), x(6, "x")) for k in ACTIVATIONS},
    "route": OpCase(Route(normal(5, 8), "x", "s", 2, True), x(8, "x")),
    "route, not normalised": OpCase(Route(normal(5, 8), "x", "s", 3, False), x(8, "x")),
    "dispatch": OpCase(DISPATCH, {"routing": SHARES, **x(8, "x")}, ("routing",)),
    "combine": OpCase(
        Combine("y", DISPATCH),
        {"y": normal(ROWS, 8), "routing": SHARES, **x(8, STREAM)}, ("routing",),
    ),
    "sigmoid gate": OpCase(SigmoidGate(normal(1, 8), "x", "y"), x(8, "x") | x(5, "y")),
    "convolution": OpCase(convolution.Convolve("x", normal(5, 4, 3), normal(5)), x(4, "x")),
    "convolution, stride": OpCase(
        convolution.Convolve("x", normal(5, 4, 5), normal(5), 2), x(4, "x", tokens=8)
    ),
    "causal convolution": OpCase(Convolve("x", normal(4, 6), normal(6), "s"), x(6, "x")),
    "one tap": OpCase(Convolve("x", normal(1, 6), None, "s"), x(6, "x")),
    "softplus": OpCase(Softplus("x", normal(6), 0.4, 1.1), x(6, "x")),
    "softplus, free": OpCase(Softplus("x"), x(6, "x")),
    "selective scan": OpCase(
        SelectiveScan("x", "dt", "B", "C", "y", -positive(3, 5), normal(5), "s"),
        {**x(5, "x"), "dt": positive(B, T, 5), **x(3, "B", "C")},
    ),
    "scan of heads": OpCase(
        SsdScan("x", "dt", "B", "C", "y", -positive(4), normal(4), 3, 5, 2, "s"),
        {**x(12, "x"), "dt": positive(B, T, 4), **x(10, "B", "C")},
    ),
}  # fmt: skip
