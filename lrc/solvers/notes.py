"""What a decomposition records of its own accord, in words."""

from __future__ import annotations

from lrc.parts.matrix import PackedMatrix
from lrc.solvers.few_tokens import FewTokensMetric, Metric
from lrc_kernels.hadamard_order import hadamard_block


def shape_notes(packed: PackedMatrix) -> tuple[str, ...]:
    """How its shape fits rotations and codebooks."""
    notes = []
    if packed.rotation == "hadamard":
        for side, size in zip(("output", "input"), packed.shape, strict=True):
            block = hadamard_block(size)[0]
            if block != size:
                notes.append(f"{side} side {size} is rotated in blocks of {block}")
    for part in packed.parts:
        notes.extend(part.notes())
    return tuple(notes)


def metric_notes(metric: Metric) -> tuple[str, ...]:
    """How the second moment was kept, and what damping it took."""
    notes = []
    if isinstance(metric, FewTokensMetric):
        tokens, n = metric.H.rows.shape
        notes.append(f"second moment kept as the rows of {tokens} tokens, few for {n} inputs")
    if metric.retries:
        notes.append(f"damping raised {metric.retries} times to {metric.damping:.1e}")
    return tuple(notes)
