"""Grids of ggml whose points are whole vectors: a table of magnitudes, and signs of even number.

=========  ======  ==================================================  =========================
codebook   points  bytes of a block of 256, in all and in their order  of a point
=========  ======  ==================================================  =========================
iq3_xxs    256     98: d, points, signs and scales                     4 of 8 magnitudes
iq2_xxs    256     66: d, four points and their signs and scale, ...   8 of 3 magnitudes
iq2_xs     512     74: d, points with signs, scales                    8 of 3 magnitudes
=========  ======  ==================================================  =========================

A weight is ``d s v``, where s is odd, 1 to 31, of a stretch of 32 weights (iq2_xs: 16), and v a
magnitude with its sign. Of eight signs seven are stored: an even number of them is negative. Which
points there are is part of the format; the numbers are those of ggml, as its package ``gguf`` has
them (MIT licence), to which the tests hold them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.ggml_layout import F16, U8, Blocks

F32 = NDArray[np.float32]

#: Weights that share signs.
SIGNED = 8
#: Points as numbers whose digits are magnitudes, the first one lowest: differences of neighbours,
#: where 255 means that more follows.
_POINTS = {
    "iq3_xxs": (
        "00II90t5j92MHMh1Of#D2LuBG2MY`c0s;jG0tW&F3I+}Y1_1&KBNG$_3k(7T1``l77Zd~n6%G&r1p)^G1p)#K0T==Y"
        "2Ldkw1p)^LA_f8u2@Mbn1S2Q}5)%wf4j=*t0tEsD0|_4j0s{gE2O9(d2m%KN0RjyH4HO3iECeAA7!(Q{MFI;K90vji"
        "0u>Df1_BNV3j!Mg1q~Gt4-!2O69xth8y^xCC>0b74gw4WO%x9S5C#z*A0-PR4i!xU0uC}47YGIr7atBF2q_&41S1F+"
        "Pb>~H5CRSzARZ+o21X$zF(?i)0s;XN5G)ER8wC~(4izB~9|96Y"
    ),
    "iq2_xxs": (
        "00II60s;aC0t5mA0tN;I0tNyG3<v@S1P&ey3<44)8Uh9i0tNyE3<?4U3<d%O3=R|m3K#+s9ufuw0tO5O0tNyW7#KJT"
        "Mgj&32oeki1P%ra5(o+~3Ni)^1Pl}^AR-P#0tONs8U#cxECL1=5C{S?2rvRr0tONeC>#`E7z{9eGy(<&1Of&I2m}fO"
        "1`-k+2m}}i7zhd;1`H$+779F40tONUGAaZLI3N-R1O@^m1{fMHMo<D6N+v1_1|U2<P6iSf9w;~-Bm`ChE{4_u1{53|"
        "3=BX>0tN&Q5+ooZ78DXDQdmj`3<fS1C^|9}3Rtu(k|Gu!N?`v9Fa"
    ),
    "iq2_xs": (
        "00II60s;a80s;a80t5mA0s;a80t5mE0s;aA0t5mI0s;a80s;a80s;mC0s;gA1_lHI1`+}S0t5mE3IYZM4hR$i0s;a8"
        "0s;gA1_A;C1OfsC3IYZa0s;aA0tN~K1_}rq0tOBQ0vs3u0s;a80tN&I0tN;Q5(okU1`-?w6cPq31PTHI0s;a80t5mE"
        "0s;aA0tN^I0tONS0s;gA1_}ZO5)1+k0s;gQ5+niw0t5mE3IYTI3<ewm1`;+57BB(^0uT%o76dLtDgpum0s;a81_}ZO"
        "5)ujm1`-AkAQU1P1Of&S0yZ29APf*Z1O@^M78DLT3>XY11OgNS0s;a80s;gA1_A;C0s;aC1O@^I5&{AO1Of&M0tONU"
        "5C{SW0uBN;0s;aA0t5mI0tONc5CR4a1}q8)76vW?1`-4a2qFp;1`r@l0s;aA0tN;I0tONs0tN&Q0yG{n0s;mK2oees"
        "2nH|)C?FOH3=jw+90~$%7y<?o3<wMq0%i^#5DrWd1T0uIGC(2-A_4*e1Of&K0s;mS0u}-S0s;gQ3I-+;Bmxiy1Of&E"
        "0uB-o6do=VCL9J37779u2w)-x2nqxO1`-Ys7!({z6chv+1_nST0xVi6COjY{0t5mI2re!LA_M{i6dV#HD3BBs3IYT$"
        "1_m|)E&?VH"
    ),
}


@dataclass(frozen=True)
class GridLayout:
    """Bytes of a block, and which vectors its weights may be.

    Codes of single weights are numbers of `table`: u8, and legal only where eight of them are
    points of the grid.

    Attributes
    ----------
    name
        Of the codebook.
    size
        Bytes of a block.
    stretch
        Weights that share a scale.
    width
        Weights of a point.
    magnitudes
        In units of what an odd scale counts in.
    """

    name: str
    size: int
    stretch: int
    width: int
    magnitudes: tuple[float, ...]

    block = 256
    #: Between neighbouring scales.
    step = 2
    zero = 0
    negated = False

    @property
    def count(self) -> int:
        """Stretches of a block."""
        return self.block // self.stretch

    def has(self, name: str) -> bool:
        """Whether a piece of this name is stored."""
        return name in ("d", "codes", "scales")

    def range(self, name: str) -> tuple[int, int]:
        """Least and largest of "scales", which are odd; there are no "mins"."""
        return (1, 31) if name == "scales" else (0, 0)

    @cached_property
    def table(self) -> F32:
        """Values of the codes, f32 (2 magnitudes,), ascending."""
        whole = np.array(self.magnitudes, np.float32)
        return np.concatenate([-whole[::-1], whole])

    @cached_property
    def digits(self) -> U8:
        """Numbers of the magnitudes of every point, u8 (points, width)."""
        steps = np.frombuffer(base64.b85decode(_POINTS[self.name]), np.uint8)
        numbers = np.cumsum(steps, dtype=np.int64)[steps < 255]
        return (numbers[:, None] // self._powers % len(self.magnitudes)).astype(np.uint8)

    @cached_property
    def points(self) -> F32:
        """Magnitudes of every point, f32 (width, points), contiguous: as kernels search them."""
        return np.ascontiguousarray(np.array(self.magnitudes, np.float32)[self.digits].T)

    @cached_property
    def _powers(self) -> NDArray[np.int64]:
        return len(self.magnitudes) ** np.arange(self.width)

    @cached_property
    def _places(self) -> NDArray[np.int16]:
        """Of every number the point that it is, or -1."""
        places = np.full(len(self.magnitudes) ** self.width, -1, np.int16)
        places[self.digits @ self._powers] = np.arange(len(self.digits))
        return places

    def pack(self, blocks: Blocks) -> U8:
        """Bytes (..., size).

        Raises
        ------
        ValueError
            When codes are no points of the grid.
        """
        lead, half = blocks.d.shape, len(self.magnitudes)
        codes = blocks.codes.astype(np.int64)
        negative = (codes < half).reshape(*lead, self.block // SIGNED, SIGNED)
        sizes = np.where(codes < half, half - 1 - codes, codes - half)
        points = self._places[
            sizes.reshape(*lead, self.block // self.width, self.width) @ self._powers
        ]
        if (points < 0).any() or (negative.sum(axis=-1) % 2).any():
            raise ValueError(f"codes are no points of the grid of {self.name}")
        signs = (negative[..., :7] << np.arange(7)).sum(axis=-1).astype(np.uint32)
        scales = (blocks.scales.astype(np.uint32) - 1) // 2
        d = blocks.d.astype("<f2")[..., None].view(np.uint8)
        if self.name == "iq2_xs":
            words = (points.astype(np.uint32) | signs << 9).astype("<u2").view(np.uint8)
            nibbles = (scales[..., ::2] | scales[..., 1::2] << 4).astype(np.uint8)
            return np.concatenate([d, words, nibbles], axis=-1)
        fours = signs.reshape(*lead, 8, 4) << np.arange(0, 28, 7, dtype=np.uint32)
        words = (fours.sum(axis=-1, dtype=np.uint32) | scales << 28).astype("<u4").view(np.uint8)
        own = points.astype(np.uint8)
        if self.name == "iq2_xxs":
            pairs = [a.reshape(*lead, 8, 4) for a in (own, words)]
            return np.concatenate([d, np.stack(pairs, axis=-2).reshape(*lead, 64)], axis=-1)
        return np.concatenate([d, own, words], axis=-1)

    def unpack(self, packed: U8) -> Blocks:
        """Undo :meth:`pack`."""
        lead, half = packed.shape[:-1], len(self.magnitudes)
        packed = np.ascontiguousarray(packed)
        d: F16 = np.ascontiguousarray(packed[..., :2]).view("<f2")[..., 0].astype(np.float16)
        rest = packed[..., 2:]
        points: NDArray[np.integer]
        signs: NDArray[np.integer]
        if self.name == "iq2_xs":
            words = np.ascontiguousarray(rest[..., :64]).view("<u2")
            points, signs = words & 511, words >> 9
            nibbles = rest[..., 64:, None] >> np.array([0, 4], np.uint8) & 15
            scales = nibbles.reshape(*lead, self.count)
        else:
            if self.name == "iq2_xxs":
                pairs = rest.reshape(*lead, 8, 2, 4)
                points = pairs[..., 0, :].reshape(*lead, 32)
                stored = pairs[..., 1, :].reshape(*lead, 32)
            else:
                points, stored = rest[..., :64], rest[..., 64:]
            wide = np.ascontiguousarray(stored).view("<u4")
            fours = wide[..., None] >> np.arange(0, 28, 7, dtype=np.uint32) & 127
            signs, scales = fours.reshape(*lead, 32), wide >> 28
        bits = signs[..., None] >> np.arange(7, dtype=signs.dtype) & 1
        negative = np.concatenate([bits, bits.sum(axis=-1, keepdims=True) % 2], axis=-1)
        sizes = self.digits[points].reshape(*lead, self.block)
        below = negative.reshape(sizes.shape).astype(bool)
        codes = np.where(below, half - 1 - sizes, half + sizes).astype(np.uint8)
        none = np.zeros(lead, np.float16)
        mins = np.zeros((*lead, self.count), np.uint8)
        return Blocks(codes, (2 * scales + 1).astype(np.int8), mins, d, none)


_THREE = tuple(v / 8 for v in (8, 25, 43))
GRIDS = {
    "iq3_xxs": GridLayout(
        "iq3_xxs", 98, 32, 4, tuple(v / 4 for v in (4, 12, 20, 28, 36, 44, 52, 62))
    ),
    "iq2_xxs": GridLayout("iq2_xxs", 66, 32, 8, _THREE),
    "iq2_xs": GridLayout("iq2_xs", 74, 16, 8, _THREE),
}
