"""Bases that neighbouring blocks share, found before any block is compressed.

A walk of its own sums the second moments H of the original's inputs over the blocks of a group;
behind the last of them, the matrices of each kind are stacked along their outputs, one kind at a
time, and R is that of the best L R of the stack under H. What is found lies in files of the
directory that is being written until the compression is done, a file a group: one that an
unfinished run has left is not made again.

Source: Basis Sharing, arXiv 2410.03765; one R for H summed over layers is its solution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from lrc.base.atomic import atomic_write_json
from lrc.base.own_files import read_own_json, reading
from lrc.base.progress import Progress
from lrc.calibrate.every_block import EveryBlock
from lrc.calibrate.streams import Inputs
from lrc.calibrate.walk import Given, SiteAtWork, Streams, start_stream, walk_stacks
from lrc.errors import FormatError, SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint, file_digest
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.linalg.diagonal_plus_low_rank import dense_moment
from lrc.linalg.lowrank import rank_constrained_regression
from lrc.linalg.norms import rms
from lrc.models.base import Model, Stack
from lrc.models.tensors import linear_of
from lrc.nn.linear import Linear
from lrc.solvers.base import Basis
from lrc.spec import APART, CompressSpec

_FILE, _RECORD = "unfinished-bases-{:05d}.safetensors", "unfinished-bases-{:05d}.json"


@dataclass(frozen=True)
class Bases:
    """What :func:`find_bases` has left in a folder, looked up by matrix."""

    folder: Path
    groups: dict[int, int]

    def of(self, block: int, name: str) -> Basis | None:
        """R of the tensor ``name`` in a block; None where it has one of its own.

        Raises
        ------
        FormatError
            The file is damaged.
        """
        first = self.groups[block]
        path = self.folder / _FILE.format(first)
        with reading(path):
            holder = _holders(self.folder, first).get(name)
            if holder is None:
                return None
            return Basis(SafetensorsFile(path).float32(holder).copy(), holder)


def check_shared(spec: CompressSpec, **options: object) -> None:
    """Refuse matrices that are solved together beside options, None where not given, that are not.

    Raises
    ------
    SpecError
        Naming what does not go with them.
    """
    given = [name for name, value in options.items() if value is not None]
    if spec.calibration.imatrix:
        given.append("imatrix")
    if (spec.basis_blocks > 1 or spec.pairs != APART) and given:
        raise SpecError(
            f"{', '.join(given)}: not beside matrices that are solved together, of several blocks "
            "or in pairs; leave it out, or take another recipe"
        )


def find_bases(
    source: Checkpoint,
    model: Model,
    spec: CompressSpec,
    inputs: Inputs,
    folder: Path,
    threads: int,
    progress: Progress,
) -> Bases:
    """Find R of every group of ``spec.basis_blocks`` neighbouring blocks of a stack.

    Notes
    -----
    Memory: one block in float32, one stream of activations, of each site of a group the sum of H,
    and while a kind is solved its matrices in the group with three n^2 float64. Time: a forward
    pass, the moments, and a QR and an eigendecomposition for each kind and group.
    """
    groups = {
        stack.first + i: stack.first + i - i % spec.basis_blocks
        for stack in model.stacks
        for i in range(len(stack))
    }
    with progress.bar("bases", len(groups), "block") as advance:
        finder = _Finder(source, spec, folder, groups, advance)
        if not all(finder.is_found(first) for first in set(groups.values())):
            _walk(model, inputs, finder, spec, threads)
    return Bases(folder, groups)


def forget_bases(folder: Path) -> None:
    """Remove what was kept in ``folder``."""
    for path in folder.glob("unfinished-bases-*"):
        path.unlink()


def shared_basis(
    weights: Sequence[NDArray[np.float32]], H: NDArray[np.floating], rank: int, seed: int
) -> NDArray[np.float32]:
    """R (rank, n) of the best L R of all ``weights`` (m, n), stacked, under H (n, n).

    Where the stack is taller than wide, its QR stands for it: both have the same W^T W.
    """
    stack = np.concatenate([W.astype(np.float64) for W in weights])
    if len(stack) > stack.shape[1]:
        stack = scipy.linalg.qr(stack, mode="r", check_finite=False)[0][: stack.shape[1]]
    stack /= rms(stack) or 1.0
    if rank >= len(stack):
        return stack.astype(np.float32)
    R = rank_constrained_regression(stack, np.asarray(H, np.float64), rank, seed=seed).R
    return R.astype(np.float32)


@dataclass
class _Finder(EveryBlock):
    """The visitor; ``moments`` and ``kinds`` are of the group at work, by names of its site."""

    source: Checkpoint
    spec: CompressSpec
    folder: Path
    groups: dict[int, int]
    advance: Callable[..., object]
    moments: dict[str, NDArray[np.floating]] = field(default_factory=dict)
    kinds: dict[tuple[str, str, tuple[int, int]], list[str]] = field(default_factory=dict)

    def is_found(self, first: int) -> bool:
        """Whether the bases of a group are there; those of a damaged file are not."""
        record, path = self.folder / _RECORD.format(first), self.folder / _FILE.format(first)
        if not record.is_file() or not path.is_file():
            return False
        with reading(record):
            checksum: str = read_own_json(record)["sha256"]
            return checksum == file_digest(path).hex()

    def begin(self, block: int) -> bool:
        """Whether the group of the block is to be looked at."""
        self.advance()
        return not self.is_found(self.groups[block])

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        """Add the moment of a site whose matrices share."""
        names = [n for n in at.tensors.values() if linear_of(n) not in self.spec.matrices]
        if at.site.writes or at.routed is not None or not names:
            return {}
        H = dense_moment(at.moment(device=self.spec.decompose.device).matrix())
        site = f"{at.site.name} {len(H)}"
        if site in self.moments:
            self.moments[site] += H
        else:
            self.moments[site] = H
        for key, name in at.tensors.items():
            if name in names:
                m, n = at.weight(key).shape
                self.kinds.setdefault((site, key, (m, n)), []).append(name)
        return {}

    def end(self, block: int) -> None:
        """Solve for the bases of a group whose last block this is, and keep them."""
        if self.groups.get(block + 1) != self.groups[block]:
            self._keep(self.groups[block])
            self.moments, self.kinds = {}, {}

    def _keep(self, first: int) -> None:
        solve = self.spec.decompose
        found: dict[str, NDArray[np.float32]] = {}
        holders: dict[str, str] = {}
        for (site, _, shape), names in self.kinds.items():
            rank = solve.low_rank.rank_on_basis(shape[0] * len(names), shape)
            if len(names) == 1 or not isinstance(rank, int):
                continue
            weights = [self.source.dense(name) for name in names]
            found[names[0]] = shared_basis(weights, self.moments[site], rank, solve.seed)
            holders |= dict.fromkeys(names, names[0])
        checksum = write_safetensors(self.folder / _FILE.format(first), found, {})
        record = {"sha256": checksum, "holders": holders}
        atomic_write_json(self.folder / _RECORD.format(first), record)


def _walk(model: Model, inputs: Inputs, finder: _Finder, spec: CompressSpec, threads: int) -> None:
    def start(stack: Stack, chunks: Sequence[NDArray[Any]], given: Given) -> Streams:
        every = spec.calibration.all_experts
        only = start_stream(stack, chunks, threads, given.student, all_experts=every)
        model.release()
        return Streams(only)

    walk_stacks(model, inputs, start, finder, threads)


def _holders(folder: Path, first: int) -> dict[str, str]:
    found = read_own_json(folder / _RECORD.format(first))["holders"]
    if not isinstance(found, dict):
        raise FormatError("holders are no object")
    return found
