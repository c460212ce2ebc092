"""Operations in NumPy on the tokens of one text: what compiled loops are held to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrc.nn.ops import STREAM, Op, Pass, run

F32 = NDArray[np.float32]


def run_ops(ops: Sequence[Op], h: F32) -> dict[str, F32]:
    """Every value after ``ops`` by its name, (T, width), from the residual stream h of a text.

    Without those of single experts.
    """
    values = run(ops, {STREAM: h[None]}, Pass(np.arange(len(h))))
    return {name: value[0] for name, value in values.items() if value.ndim == 3}
