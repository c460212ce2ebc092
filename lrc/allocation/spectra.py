"""How far weights are from low rank, and how far what they compute is: spectra by matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import ordered_map
from lrc.calibrate.examples import Examples
from lrc.calibrate.walk import Given, SiteAtWork, Streams, start_stream, walk_stacks
from lrc.models.base import Block, Model, Stack
from lrc.models.tensors import linear_of, weight_of
from lrc.nn.linear import Linear

F64 = NDArray[np.float64]
#: Part of the energy that `Spectrum.rank_of` leaves to the other directions.
REST = 0.05
#: Part of a matrix's numbers at which `loss_at_half` looks.
_HALF = 0.5


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values of one matrix W (m, n), of its inputs x, and of its outputs W x.

    Attributes
    ----------
    name : str
    block : int
    shape : (m, n)
    weights, inputs, outputs : float64 arrays, descending
        Of W, of E[x x^T]^(1/2), and of W E[x x^T]^(1/2); the first two are empty where outputs
        alone were looked at.
    """

    name: str
    block: int
    shape: tuple[int, int]
    weights: F64
    inputs: F64
    outputs: F64

    @property
    def loss_at_half(self) -> float:
        """sqrt(E|W x - L R x|^2 / E|W x|^2) of the best L R with half of W's numbers."""
        m, n = self.shape
        energy = self.outputs**2
        rank = int(_HALF * m * n / (m + n))
        total = float(energy.sum())
        return float(np.sqrt(energy[rank:].sum() / total)) if total > 0 else 0.0

    def record(self) -> dict[str, Any]:
        """The figures of a matrix, and the values themselves."""
        sides = {"weights": self.weights, "inputs": self.inputs, "outputs": self.outputs}
        return {
            "block": self.block,
            "shape": list(self.shape),
            "loss_at_half": self.loss_at_half,
            "effective_rank": {side: effective_rank(of) for side, of in sides.items()},
            "rank_95": {side: rank_of(of) for side, of in sides.items()},
            "singular_values": {side: of.tolist() for side, of in sides.items()},
        }


def effective_rank(values: F64) -> float:
    """Exp of the entropy of the energies of singular values: r for r that are alike.

    Source: Roy and Vetterli, 2007, on squared values.

    Examples
    --------
    >>> round(effective_rank(np.array([2.0, 2.0, 2.0, 0.0])), 6)
    3.0
    """
    energy = values**2
    total = float(energy.sum())
    if total <= 0:
        return 0.0
    parts = energy[energy > 0] / total
    return float(np.exp(-(parts * np.log(parts)).sum()))


def rank_of(values: F64, rest: float = REST) -> int:
    """The least number of leading singular values that leave at most ``rest`` of the energy.

    Examples
    --------
    >>> rank_of(np.array([3.0, 1.0, 0.1]))
    2
    """
    energy = values**2
    left = energy.sum() - np.cumsum(energy)
    return int(np.searchsorted(-left, -rest * energy.sum())) + 1 if energy.any() else 0


def spectra(
    model: Model,
    examples: Examples,
    threads: int,
    progress: Progress = SILENT,
    *,
    outputs_alone: bool = False,
) -> list[Spectrum]:
    """Spectra of every matrix, bottom first, on the activations of the model itself.

    Notes
    -----
    Cost: one forward pass, 2 T n^2 a site for moments, and eigenvalues of an m x m or n x n matrix
    each for W, inputs and outputs. Memory: one block in float32, and 16 n^2 bytes.
    """
    with progress.bar("spectra", len(model.tensors.matrices), "matrix") as advance:
        visitor = _Spectra(threads, advance, outputs_alone)

        def start(stack: Stack, chunks: Sequence[NDArray[Any]], given: Given) -> Streams:
            return Streams(start_stream(stack, chunks, threads, given.student))

        walk_stacks(model, examples.inputs, start, visitor, threads)
    return visitor.found


def weight_values(model: Model, threads: int, progress: Progress = SILENT) -> dict[str, F64]:
    """Singular values of every matrix by name, descending: no activation is looked at.

    Cost m n min(m, n) a matrix. Memory: one matrix a thread, twice in float64.
    """

    def one(name: str) -> F64:
        return _roots(_eigenvalues(model.source.dense(weight_of(name)).astype(np.float64), None))

    names = list(model.tensors.matrices)
    found = {}
    with progress.bar("spectra", len(names), "matrix") as advance:
        for name, values in zip(names, ordered_map(one, names, threads), strict=True):
            found[name] = values
            advance()
    return found


@dataclass
class _Spectra:
    """The visitor: every block stays as it is."""

    threads: int
    advance: Any
    outputs_alone: bool
    found: list[Spectrum] = field(default_factory=list)

    def begin(self, block: int) -> bool:
        """Every block is looked at."""
        del block
        return True

    def replay(self, block: int, dense: Block) -> dict[str, Linear]:
        """Nothing was done before."""
        raise AssertionError(f"block {block} with {len(dense.linears)} layers was not visited")

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        """Take the spectra of the matrices of a site."""
        moment = at.moment().matrix()
        H = np.eye(len(moment)) @ moment
        none = np.zeros(0)
        inputs = none if self.outputs_alone else _roots(_symmetric_eigenvalues(H))

        def one(key: str) -> Spectrum:
            W = at.weight(key).astype(np.float64)
            name = linear_of(at.tensors[key])
            shape = (W.shape[0], W.shape[1])
            return Spectrum(
                name,
                at.block,
                shape,
                none if self.outputs_alone else _roots(_eigenvalues(W, None)),
                inputs,
                _roots(_eigenvalues(W, H)),
            )

        self.found.extend(ordered_map(one, at.site.linears, self.threads))
        self.advance(len(at.site.linears))
        return {}

    def end(self, block: int) -> None:
        """Nothing is written."""


def _eigenvalues(W: F64, H: F64 | None) -> F64:
    """Eigenvalues of W H W^T, min(m, n) of them, by way of the smaller side."""
    m, n = W.shape
    if H is None:
        gram = W @ W.T if m <= n else W.T @ W
    elif m <= n:
        gram = W @ H @ W.T
    else:
        values, vectors = np.linalg.eigh(H)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        gram = root.T @ (W.T @ W) @ root
    return _symmetric_eigenvalues(gram)


def _symmetric_eigenvalues(A: F64) -> F64:
    return np.asarray(np.linalg.eigvalsh(A), np.float64)


def _roots(eigenvalues: F64) -> F64:
    return np.sqrt(np.maximum(eigenvalues, 0.0))[::-1]
