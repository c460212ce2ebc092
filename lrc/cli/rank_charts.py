"""Pictures of spectra, as the page of `lrc report` has them: how they fall, and what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lrc.allocation.spectra import Spectrum

F64 = NDArray[np.float64]
#: Points of a curve.
_POINTS = 101


def draw(found: Sequence[Spectrum], folder: Path) -> list[Path]:
    """Write pictures into a folder, which is made; return their paths.

    ``spectra-weights.svg`` and ``spectra-outputs.svg``: energy that the leading directions hold,
    the mean over blocks, of W and of W x. ``depth.svg``: what is lost of the outputs with half of
    the numbers, block by block.
    """
    from lrc.cli.page import svg

    folder.mkdir(parents=True, exist_ok=True)
    at, kinds = np.linspace(0, 1, _POINTS), _kinds(found)
    pictures = {}
    for side, title in (("weights", "W"), ("outputs", "W x")):
        curves = {
            kind: list(zip(100 * at, _mean_energy(members, side, at), strict=True))
            for kind, members in kinds.items()
        }
        label = f"part of the energy of {title}"
        pictures[f"spectra-{side}.svg"] = svg.lines(
            curves, f"leading directions, % of all; {label}", label
        )
    losses = {kind: [(of.block, of.loss_at_half) for of in members]
              for kind, members in kinds.items()}  # fmt: skip
    label = "relative error of the outputs at half of the numbers"
    pictures["depth.svg"] = svg.lines(losses, f"block; {label}", label)
    paths = []
    for name, picture in pictures.items():
        paths.append(folder / name)
        paths[-1].write_text(svg.as_file(picture), encoding="utf-8")
    return paths


def _kinds(found: Sequence[Spectrum]) -> dict[str, list[Spectrum]]:
    """Matrices by the last part of their names."""
    kinds: dict[str, list[Spectrum]] = {}
    for of in found:
        kinds.setdefault(of.name.rsplit(".", 1)[-1], []).append(of)
    return kinds


def _mean_energy(members: Sequence[Spectrum], side: str, at: F64) -> list[float]:
    """Mean part of the energy in so large parts of the directions."""
    curves = [_energy(getattr(of, side), at) for of in members]
    return [float(value) for value in np.mean(curves, axis=0)]


def _energy(values: F64, at: F64) -> F64:
    """Part of the energy in so large a part of the directions."""
    energy = np.concatenate(([0.0], np.cumsum(values**2)))
    scaled = energy / energy[-1] if energy[-1] > 0 else energy
    found: F64 = np.interp(at, np.linspace(0, 1, len(scaled)), scaled)
    return found
