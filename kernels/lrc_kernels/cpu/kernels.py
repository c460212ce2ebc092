"""The CPU backend, assembled."""

from __future__ import annotations

from lrc_kernels.contract import KernelSet
from lrc_kernels.cpu.codes import e81b, scalar, trellis
from lrc_kernels.cpu.dot import matvec
from lrc_kernels.cpu.encode import lattice
from lrc_kernels.cpu.transform import hadamard

KERNELS = KernelSet(
    fwht=hadamard.fwht,
    encode_e8p=lattice.encode_e8p,
    decode_e8p=lattice.decode_e8p,
    encode_e81b=e81b.encode_e81b,
    decode_e81b=e81b.decode_e81b,
    nearest_level=scalar.nearest_level,
    pack_bits=scalar.pack_bits,
    unpack_bits=scalar.unpack_bits,
    matvec_e8p=matvec.matvec_e8p,
    matvec_e8p_rvq3=matvec.matvec_e8p_rvq3,
    matvec_e8p_rvq4=matvec.matvec_e8p_rvq4,
    decode_trellis=trellis.decode_trellis,
    matvec_trellis=trellis.matvec_trellis,
    matvec_levels=matvec.matvec_levels,
)
