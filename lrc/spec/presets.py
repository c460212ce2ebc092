"""Named parameters: how much time to give for how good a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lrc import codebooks
from lrc.errors import SpecError
from lrc.spec import CalibrationSpec, CompressSpec, DecomposeSpec, MetricSpec, QuantSpec

#: What a budget without a preset uses.
DEFAULT = "balanced"


@dataclass(frozen=True)
class Preset:
    """Defaults of one name; ``passes`` and ``heldout_windows`` are those of an allocation.

    None searches end to end: on so few held-out windows the search fits their noise.
    ``polish_sweeps`` are those of each matrix, ``metric`` is what errors are weighed by.
    """

    codebook: str
    windows: int
    passes: int
    heldout_windows: int
    polish_sweeps: int | Literal["auto"] = "auto"
    metric: str = "inputs"

    def spec(self, bits: int = 2) -> CompressSpec:
        """The parameters at a width; the codebook is the one that stands for its own there."""
        quant = QuantSpec(codebooks.at_width(self.codebook, bits), bits)
        return CompressSpec(
            decompose=DecomposeSpec(quant=quant, polish_sweeps=self.polish_sweeps),
            calibration=CalibrationSpec(nsamples=self.windows),
            metric=MetricSpec(self.metric),
        )


#: On a small trained model the metric of its end takes 3 % off the divergence at 3 and 4 bits, and
#: 8 % with the codes of "best"; 14 % at 2 bits of SmolLM2-135M.
PRESETS = {
    "fast": Preset("shuffle10", windows=32, passes=20, heldout_windows=4),
    "balanced": Preset("shuffle12", windows=64, passes=80, heldout_windows=4),
    "best": Preset(
        "trellis14", windows=128, passes=200, heldout_windows=8, polish_sweeps=2, metric="kl"
    ),
}


#: Efforts, least first: how much text is looked at, and how hard codes are searched for. "normal"
#: is what is done unless told.
EFFORTS = {
    "least": Preset("shuffle10", windows=8, passes=10, heldout_windows=2, polish_sweeps=0),
    "quick": Preset("shuffle10", windows=16, passes=20, heldout_windows=4, polish_sweeps=1),
    "moderate": Preset("shuffle10", windows=32, passes=40, heldout_windows=4),
    "normal": Preset(codebooks.DEFAULT, windows=64, passes=80, heldout_windows=4),
    "thorough": Preset("trellis14", windows=128, passes=200, heldout_windows=8, polish_sweeps=2),
}


def get_preset(name: str) -> Preset:
    """The preset ``name``.

    Raises
    ------
    SpecError
        If there is none.
    """
    if name not in PRESETS:
        raise SpecError(f"preset {name!r} is unknown; use one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset(name: str) -> CompressSpec:
    """Parameters of a compression: "fast", "balanced" or "best".

    Raises
    ------
    SpecError
        If there is no preset of this name.

    Examples
    --------
    >>> preset("balanced").decompose.quant.codebook
    'shuffle12'
    """
    return get_preset(name).spec()
