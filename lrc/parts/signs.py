"""What a rotation multiplies inputs and outputs with: signs as bits, or numbers of eight bits.

A compression draws signs. Tuning may replace them by real numbers near them, each side of a matrix
for itself: int8, a number is its code over `UNIT`, exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.formats.safetensors.file import TensorSpec

F32 = NDArray[np.float32]

#: What the code of a real number is divided by.
UNIT = 64
#: Rotations by the names that records have, and which of their sides are real: inputs, outputs.
_REAL = {
    "none": (False, False),
    "hadamard": (False, False),
    "hadamard-real-in": (True, False),
    "hadamard-real-out": (False, True),
    "hadamard-real": (True, True),
}
ROTATIONS = tuple(_REAL)


def rotation_of(signs_in: NDArray[Any] | None, signs_out: NDArray[Any] | None) -> str:
    """The name of the rotation with these signs, packed."""
    if signs_in is None or signs_out is None:
        return "none"
    real = _is_real(signs_in), _is_real(signs_out)
    return next(name for name, sides in _REAL.items() if name != "none" and sides == real)


def sign_specs(rotation: str, shape: tuple[int, int]) -> dict[str, TensorSpec]:
    """Dtypes and shapes of ``signs_in`` and ``signs_out`` (m, n = ``shape``): none unrotated."""
    if rotation == "none":
        return {}
    m, n = shape
    return {
        name: TensorSpec("I8", (size,)) if real else TensorSpec("U8", (-(-size // 8),))
        for name, size, real in zip(("signs_in", "signs_out"), (n, m), _REAL[rotation], strict=True)
    }


def _is_real(signs: NDArray[Any]) -> bool:
    return signs.dtype == np.int8


def unpack_signs(signs: NDArray[Any] | None, n: int) -> F32 | None:
    """Stored signs as f32 (n,); None stays None.

    Bits (u8, little-endian, 1 = negative) are +-1; int8 is a number each, see `UNIT`.
    """
    if signs is None:
        return None
    if _is_real(signs):
        return kernel_signs(signs)
    bits = np.unpackbits(signs, count=n, bitorder="little")
    return np.float32(1) - np.float32(2) * bits.astype(np.float32)


def kernel_signs(signs: NDArray[Any]) -> NDArray[Any]:
    """Stored signs as kernels read them: bits as they are, real numbers as float32."""
    return signs.astype(np.float32) / np.float32(UNIT) if _is_real(signs) else signs


def pack_real_signs(values: F32) -> NDArray[np.int8]:
    """Real numbers as the nearest codes; those beyond the last become that."""
    codes: NDArray[np.int8] = np.clip(np.rint(values * np.float32(UNIT)), -127, 127).astype(np.int8)
    return codes
