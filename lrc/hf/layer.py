"""A linear layer of torch on packed matrices: its product is this library's, on NumPy's views."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.nn.execution import Execution
from lrc.nn.linear import apply_all
from lrc.nn.packed import PackedLinear
from lrc.parts.matrix import PackedMatrix

_EXECUTION = Execution(integers=True)


class PackedProduct:
    """What a layer of torch does; :func:`layer_class` makes one of it.

    Its matrices are no parameters: they are not moved, cast, trained or saved. ``weight`` is
    decoded anew whenever something looks at it.
    """

    out_features: int
    in_features: int

    def hold(self, matrices: Sequence[PackedMatrix], bias: Any, *, transposed: bool) -> None:
        """Take matrices, whose outputs follow one another, and a parameter or None as the bias."""
        self._linears = tuple(PackedLinear(matrix) for matrix in matrices)
        self._transposed = transposed
        self.in_features = matrices[0].shape[1]
        self.out_features = sum(matrix.shape[0] for matrix in matrices)
        self.bias = bias

    def product(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (..., n) to (..., m), float32, without the bias.

        A single vector is rounded to 15 bits where the codes are multiplied as integers: that is
        several times as fast as decoding them for it.
        """
        found = apply_all(self._linears, x, _EXECUTION)
        return found[0] if len(found) == 1 else np.concatenate(found, axis=-1)

    def dense(self) -> NDArray[np.float32]:
        """The whole weight (m, n) f32, decoded."""
        return np.concatenate([linear.matrix.to_dense() for linear in self._linears])

    @property
    def weight(self) -> Any:
        """A tensor f32 with the decoded weight: a fresh one, so changing it changes nothing."""
        import torch

        W = self.dense()
        return torch.from_numpy(W.T if self._transposed else W)

    def forward(self, x: Any) -> Any:
        """Map (..., n) to (..., m) in the type of ``x``.

        Raises
        ------
        SpecError
            ``x`` is not on the CPU.
        """
        if x.device.type != "cpu":
            raise SpecError(f"a layer of lrc runs on the CPU and was given inputs on {x.device}")
        y = _function().apply(x, self)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def extra_repr(self) -> str:
        """Sizes, as torch shows them."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


@cache
def layer_class() -> Any:
    """The layer as a subclass of ``torch.nn.Module``."""
    from torch import nn

    return type("LrcLinear", (PackedProduct, nn.Module), {"__doc__": PackedProduct.__doc__})


@cache
def _function() -> Any:
    """The product as torch differentiates it: by its inputs, never by its weight."""
    import torch

    def forward(context: Any, x: Any, layer: PackedProduct) -> Any:
        context.layer = layer
        values = layer.product(x.detach().to(torch.float32).contiguous().numpy())
        return torch.from_numpy(values).to(x.dtype)

    def backward(context: Any, gradient: Any) -> Any:
        back = gradient.detach().to(torch.float32).numpy() @ context.layer.dense()
        return torch.from_numpy(back).to(gradient.dtype), None

    rules = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("PackedProductFunction", (torch.autograd.Function,), rules)
