"""What lies before the first block of a decoder and after the last one, as operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lrc.models.decoder_tensors import FINAL_NORM
from lrc.models.source import Array
from lrc.nn.linear import Linear
from lrc.nn.ops import LOGITS, STREAM, Multiply, Norm, Op

#: Tensors outside the blocks that are no tables, by key.
Plain: TypeAlias = Mapping[str, Array]


def nothing(config: Any, plain: Plain) -> Sequence[Op]:
    """Blocks begin with the rows of the embedding."""
    return ()


def norm_and_head(config: Any, plain: Plain, head: Linear) -> Sequence[Op]:
    """RMSNorm, then the head."""
    return (
        Norm(plain[FINAL_NORM], STREAM, "x", config.eps),
        Multiply((head,), "x", (LOGITS,)),
    )


def layer_norm_and_head(config: Any, plain: Plain, head: Linear) -> Sequence[Op]:
    """Layer norm, with a bias where there is one, then the head."""
    weight, bias = plain[FINAL_NORM], plain.get(f"{FINAL_NORM}.bias")
    return (
        Norm(weight, STREAM, "x", config.eps, "layer", bias),
        Multiply((head,), "x", (LOGITS,)),
    )


@dataclass(frozen=True)
class Ends:
    """The two ends of a family.

    Attributes
    ----------
    before : function
        From configuration and plain tensors to the operations on `STREAM`, which holds the rows
        of the embedding.
    after : function
        From these and the head to the operations that lead from `STREAM` to `LOGITS`.
    """

    before: Callable[[Any, Plain], Sequence[Op]] = nothing
    after: Callable[[Any, Plain, Linear], Sequence[Op]] = norm_and_head


#: Of Llama and its kin.
ENDS = Ends()
#: Of those with layer norms.
LAYER_NORM_ENDS = Ends(after=layer_norm_and_head)
