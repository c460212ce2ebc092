"""Named parameters: how much time to give for how good a result."""

from __future__ import annotations

from dataclasses import dataclass

from lrc.errors import SpecError
from lrc.spec import CalibrationSpec, CompressSpec, DecomposeSpec, QuantSpec

#: What a budget without a preset uses.
DEFAULT = "balanced"


@dataclass(frozen=True)
class Preset:
    """Defaults of one name; ``passes`` and ``heldout_windows`` are those of an allocation.

    None searches end to end: on so few held-out windows the search fits their noise.
    """

    codebook: str
    windows: int
    passes: int
    heldout_windows: int

    def spec(self) -> CompressSpec:
        """The parameters, at 2 bits."""
        return CompressSpec(
            decompose=DecomposeSpec(quant=QuantSpec(self.codebook, 2)),
            calibration=CalibrationSpec(nsamples=self.windows),
        )


PRESETS = {
    "fast": Preset("shuffle10", windows=32, passes=20, heldout_windows=4),
    "balanced": Preset("shuffle12", windows=64, passes=80, heldout_windows=4),
    "best": Preset("trellis14", windows=128, passes=200, heldout_windows=8),
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
