"""Pictures of spectra: how they fall, and what each block can lose. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import LrcError

if TYPE_CHECKING:
    from lrc.allocation.spectra import Spectrum

F64 = NDArray[np.float64]
#: Points of a curve.
_POINTS = 101


def check_chart() -> None:
    """Refuse to draw where matplotlib is missing, before any work.

    Raises
    ------
    LrcError
        Saying what to install.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise LrcError("--chart needs matplotlib; install the extra: pip install 'lrc-llm[chart]'")


def draw(found: Sequence[Spectrum], folder: Path) -> list[Path]:
    """Write ``spectra.svg`` and ``depth.svg`` into a folder, which is made; return their paths."""
    import matplotlib
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "spectra.svg", folder / "depth.svg"]
    with matplotlib.rc_context({"svg.hashsalt": "lrc", "svg.fonttype": "none"}):
        for path, width, plot in zip(paths, (10.0, 6.0), (_spectra, _depth), strict=True):
            figure = Figure(figsize=(width, 4.5), layout="constrained")
            plot(figure, found)
            figure.savefig(path, format="svg", metadata={"Date": None})
    return paths


def _kinds(found: Sequence[Spectrum]) -> dict[str, list[Spectrum]]:
    """Matrices by the last part of their names."""
    kinds: dict[str, list[Spectrum]] = {}
    for of in found:
        kinds.setdefault(of.name.rsplit(".", 1)[-1], []).append(of)
    return kinds


def _spectra(figure: Any, found: Sequence[Spectrum]) -> None:
    """Energy that the leading directions hold, the mean over blocks, of weights and outputs."""
    axes = figure.subplots(1, 2, sharey=True)
    at = np.linspace(0, 1, _POINTS)
    for axis, side, title in zip(axes, ("weights", "outputs"), ("W", "W x"), strict=True):
        for kind, members in _kinds(found).items():
            axis.plot(100 * at, np.mean([_energy(getattr(of, side), at) for of in members], axis=0),
                      label=kind)  # fmt: skip
        axis.set_xlabel("leading directions, % of all")
        axis.set_title(title)
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_ylabel("part of the energy")
    axes[1].legend(fontsize="small")


def _energy(values: F64, at: F64) -> F64:
    """Part of the energy in so large a part of the directions."""
    energy = np.concatenate(([0.0], np.cumsum(values**2)))
    scaled = energy / energy[-1] if energy[-1] > 0 else energy
    found: F64 = np.interp(at, np.linspace(0, 1, len(scaled)), scaled)
    return found


def _depth(figure: Any, found: Sequence[Spectrum]) -> None:
    """What is lost of the outputs with half of the numbers, block by block."""
    axis = figure.subplots()
    for kind, members in _kinds(found).items():
        axis.plot([of.block for of in members], [of.loss_at_half for of in members], "o-",
                  ms=3, label=kind)  # fmt: skip
    axis.set_xlabel("block")
    axis.set_ylabel("relative error of the outputs at half of the numbers")
    axis.grid(visible=True, alpha=0.3)
    axis.legend(fontsize="small")
