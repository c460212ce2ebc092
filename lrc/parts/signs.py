"""What a rotation multiplies inputs and outputs with: signs as bits, or numbers of eight bits.

A compression draws signs. Tuning may replace them by real numbers near them, each side of a matrix
for itself: int8, the number of a code c is (191 + abs(c)) / 256, negative where c is, exactly. So a
sign is 65 or -65, and numbers reach from 3/4 to 5/4 of it in steps that are small beside what
tuning moves them by.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.base import stray_bits
from lrc.formats.safetensors.writing import TensorSpec

F32 = NDArray[np.float32]

#: Steps of a real number in one, and how many of them lie below the least.
_STEPS, _BELOW = 256, 191
#: Rotations by the names that records have: what inputs and outputs are multiplied with.
_SIDES: dict[str, tuple[str | None, str | None]] = {
    "none": (None, None),
    "inputs": ("bits", None),
    "hadamard": ("bits", "bits"),
    "hadamard-real-in": ("real", "bits"),
    "hadamard-real-out": ("bits", "real"),
    "hadamard-real": ("real", "real"),
}
ROTATIONS = tuple(_SIDES)


def rotation_of(signs_in: NDArray[Any] | None, signs_out: NDArray[Any] | None) -> str:
    """The name of the rotation with these signs, packed."""
    wanted = _kind(signs_in), _kind(signs_out)
    return next(name for name, sides in _SIDES.items() if sides == wanted)


def sign_specs(rotation: str, shape: tuple[int, int]) -> dict[str, TensorSpec]:
    """Dtypes and shapes of ``signs_in`` and ``signs_out`` (m, n = ``shape``) that it has."""
    m, n = shape
    sides = zip(("signs_in", "signs_out"), (n, m), _SIDES[rotation], strict=True)
    return {
        name: TensorSpec("I8", (size,)) if kind == "real" else TensorSpec("U8", (-(-size // 8),))
        for name, size, kind in sides
        if kind is not None
    }


def _kind(signs: NDArray[Any] | None) -> str | None:
    if signs is None:
        return None
    return "real" if _is_real(signs) else "bits"


def _is_real(signs: NDArray[Any]) -> bool:
    return signs.dtype == np.int8


def out_of_range(signs: NDArray[Any] | None, size: int) -> bool:
    """Whether stored signs of ``size`` channels hold what is none: other bits, or codes 0, -128."""
    if signs is None:
        return False
    if _is_real(signs):
        return bool(np.isin(signs, (0, -128)).any())
    return stray_bits(signs, size)


def unpack_signs(signs: NDArray[Any] | None, n: int) -> F32 | None:
    """Stored signs as f32 (n,); None stays None.

    Bits (u8, little-endian, 1 = negative) are +-1; int8 is a number each.
    """
    if signs is None:
        return None
    if _is_real(signs):
        return kernel_signs(signs)
    bits = np.unpackbits(signs, count=n, bitorder="little")
    return np.float32(1) - np.float32(2) * bits.astype(np.float32)


def kernel_signs(signs: NDArray[Any]) -> NDArray[Any]:
    """Stored signs as kernels read them: bits as they are, real numbers as float32."""
    if not _is_real(signs):
        return signs
    sizes = (_BELOW + np.abs(signs.astype(np.float32))) / np.float32(_STEPS)
    return np.where(signs < 0, -sizes, sizes)


def pack_real_signs(values: F32, signs: F32) -> NDArray[np.int8]:
    """Real numbers as the nearest codes that have these ``signs``, +-1 or numbers themselves."""
    negative = signs < 0
    sizes = np.rint(np.where(negative, -values, values) * np.float32(_STEPS)) - _BELOW
    codes: NDArray[np.int8] = np.clip(sizes, 1, 127).astype(np.int8)
    codes[negative] *= -1
    return codes
