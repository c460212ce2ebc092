"""Attention with linear biases: what is far off counts less, in each head by another slope."""

from __future__ import annotations

from dataclasses import replace

from lrc.models.gpt_block import GptBlock
from lrc.nn.ops import Attend


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """Slopes of so many heads (Press et al., 2021): powers of two, evenly from near 1 to 2**-8.

    Where their number is no power of two, those of the power below come first, and then every other
    one of twice as many.

    Examples
    --------
    >>> alibi_slopes(4)
    (0.25, 0.0625, 0.015625, 0.00390625)
    >>> alibi_slopes(3)
    (0.0625, 0.00390625, 0.25)
    """
    whole = 1 << (heads.bit_length() - 1)
    first = [2.0 ** (-8 * i / whole) for i in range(1, whole + 1)]
    between = [2.0 ** (-4 * i / whole) for i in range(1, 2 * whole, 2)]
    return (*first, *between[: heads - whole])


class AlibiBlock(GptBlock):
    """The block of GPT-2's kin whose attention has linear biases."""

    def attend(self, *values: str) -> Attend:
        """The usual attention, with slopes."""
        return replace(super().attend(*values), slopes=alibi_slopes(self.config.heads))
