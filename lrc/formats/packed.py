"""Compressed models on disk: version 1.

A directory holds ``config.json`` and every other non-weight file of the source, byte for byte,
and

``lrc.json``
    ``format`` "lrc"; ``version`` 1; ``library``; ``spec`` (every parameter); ``source``
    (``digest`` sha256 of config and weights, ``parameters``); ``files`` (names of the safetensors
    files); ``matrices`` (name -> record); ``calibration`` (tokens seen and dropped); ``warnings``;
    where bits were chosen for a budget, ``allocation`` (the budget, what came of it).
``shell.safetensors``
    embedding, final norm and, when it is not tied, the head.
``block-00000.safetensors`` ...
    one decoder block each.

A record names the matrix's ``file``, ``shape`` [m, n], ``codebook``, ``bits``, ``group_size``,
``rotation``, ``rank``, ``factor_bits`` and the measured ``bits_per_weight``,
``relative_error``, ``weight_error``, ``damping``, ``notes`` and ``trace``, the ``shrinkage`` of
the moments that errors are measured with, and the ``reason`` of a matrix whose parameters are its
own. Tensors of the matrix
``NAME`` (checkpoint key, with ``.weight``), all little-endian:

=================== ======== ===================== ===========================================
tensor              dtype    shape                 meaning
=================== ======== ===================== ===========================================
NAME.codes.0, .1    U16, U8  see formats/codec.py  planes of the codebook
NAME.scales         F16      (1|m, groups)         decode-side scales; a weight is gain scale value
NAME.gain           F32      (1,)                  multiplies Q and L R
NAME.signs_in       U8       ceil(n/8)             bit i (from the lowest) set: input i is negated
NAME.signs_out      U8       ceil(m/8)             the same for outputs; both only when rotated
NAME.left           U8, F16  (r, ceil(m bits/8))   L^T, Lloyd-Max codes; F16 (r, m) at 16 bits
NAME.left_scales    F16      (r,)                  one a component; empty at 16 bits
NAME.right          U8, F16  (r, ceil(n bits/8))   R likewise
NAME.right_scales   F16      (r,)
=================== ======== ===================== ===========================================

Rotated, W = S_out M_m^T gain (Q + L R) M_n S_in with M of lrc_kernels/rotate.py. Tensors that are
not compressed keep their name: norms and biases F32, 16-bit embeddings and heads F16.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError
from lrc.formats.checkpoint import Checkpoint, contained, other_files
from lrc.formats.codec import plane_layout
from lrc.formats.hub_cache import snapshot_in
from lrc.formats.manifest import FORMAT as FORMAT
from lrc.formats.manifest import FORMAT_VERSION as FORMAT_VERSION
from lrc.formats.manifest import MANIFEST as MANIFEST
from lrc.formats.manifest import check_record, read_manifest
from lrc.formats.matrix import Factor, PackedMatrix
from lrc.formats.safetensors_file import SafetensorsFile
from lrc.formats.strict_json import read_object

#: Prefix of the tensors of decoder blocks.
BLOCKS = "model.layers."
_NO_SCALES = np.zeros((1, 1), np.float16)


def matrix_tensors(name: str, matrix: PackedMatrix) -> dict[str, NDArray[Any]]:
    """The tensors that store ``matrix`` under ``name``."""
    tensors: dict[str, NDArray[Any]] = {
        f"{name}.codes.{i}": plane for i, plane in enumerate(matrix.planes)
    }
    if matrix.planes:
        tensors[f"{name}.scales"] = matrix.scales
    tensors[f"{name}.gain"] = np.array([matrix.gain], np.float32)
    for side, signs in (("signs_in", matrix.signs_in), ("signs_out", matrix.signs_out)):
        if signs is not None:
            tensors[f"{name}.{side}"] = signs
    for side, factor in (("left", matrix.left), ("right", matrix.right)):
        if factor is not None:
            tensors[f"{name}.{side}"] = factor.words
            tensors[f"{name}.{side}_scales"] = factor.scales
    return tensors


def matrix_record(matrix: PackedMatrix) -> dict[str, Any]:
    """The fields of a record that decoding needs, and the bits it costs."""
    return {
        "shape": list(matrix.shape),
        "codebook": matrix.codebook,
        "bits": matrix.bits,
        "group_size": matrix.group_size,
        "rotation": matrix.rotation,
        "rank": 0 if matrix.right is None else matrix.right.rank,
        "factor_bits": 0 if matrix.right is None else matrix.right.bits,
        "bits_per_weight": matrix.bits_per_weight,
    }


def read_matrix(file: SafetensorsFile, name: str, record: Mapping[str, Any]) -> PackedMatrix:
    """Rebuild the matrix ``name``; arrays are views of the memory map.

    Raises
    ------
    FormatError
        If the record or a tensor is missing, does not fit or holds a scale that is not finite.
    """
    check_record(name, record)
    m, n = record["shape"]
    codebook, bits, group_size = record["codebook"], record["bits"], record["group_size"]
    rank, factor_bits, rotation = record["rank"], record["factor_bits"], record["rotation"]
    layout = plane_layout(codebook, bits, m, n)
    planes = tuple(
        _expect(file, f"{name}.codes.{i}", dtype, shape) for i, (dtype, shape) in enumerate(layout)
    )
    groups = -(-n // group_size) if group_size else 1
    scales = _scales(file, f"{name}.scales", m, groups) if planes else _NO_SCALES
    rotated = rotation == "hadamard"
    return PackedMatrix(
        shape=(m, n),
        codebook=codebook,
        bits=bits,
        group_size=group_size,
        planes=planes,
        scales=scales,
        gain=float(_finite(file, f"{name}.gain", np.dtype(np.float32), (1,))[0]),
        rotation=rotation,
        signs_in=_signs(file, f"{name}.signs_in", n) if rotated else None,
        signs_out=_signs(file, f"{name}.signs_out", m) if rotated else None,
        left=_factor(file, f"{name}.left", rank, m, factor_bits) if rank else None,
        right=_factor(file, f"{name}.right", rank, n, factor_bits) if rank else None,
    )


def _expect(
    file: SafetensorsFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    array = file.read(name)
    if array.dtype != dtype or array.shape != tuple(shape):
        raise FormatError(
            f"{file.path}: tensor {name} is {array.dtype} {array.shape}, "
            f"and {MANIFEST} implies {dtype} {tuple(shape)}"
        )
    return array


def _finite(
    file: SafetensorsFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    array = _expect(file, name, dtype, shape)
    if not np.isfinite(array).all():
        raise FormatError(f"{file.path}: tensor {name} has values that are not finite")
    return array


def _scales(file: SafetensorsFile, name: str, m: int, groups: int) -> NDArray[Any]:
    rows = m if file.info(name).shape[:1] == (m,) else 1
    return _finite(file, name, np.dtype(np.float16), (rows, groups))


def _signs(file: SafetensorsFile, name: str, length: int) -> NDArray[Any]:
    return _expect(file, name, np.dtype(np.uint8), (-(-length // 8),))


def _factor(file: SafetensorsFile, name: str, rank: int, length: int, bits: int) -> Factor:
    whole = bits == 16
    dtype = np.dtype(np.float16 if whole else np.uint8)
    shape = (rank, length if whole else -(-length * bits // 8))
    words = (_finite if whole else _expect)(file, name, dtype, shape)
    scales = _finite(file, f"{name}_scales", np.dtype(np.float16), (0 if whole else rank,))
    return Factor(bits, length, words, scales)


class PackedCheckpoint:
    """A compressed model's directory, read through memory maps.

    Parameters
    ----------
    path : Path
        Directory with ``lrc.json``.
    """

    kind = "packed"

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.report = manifest
        self._matrices: dict[str, dict[str, Any]] = manifest["matrices"]

    @classmethod
    def open(cls, path: str | Path) -> PackedCheckpoint:
        """Read and check the manifest and every file's header.

        Raises
        ------
        FormatError
            If the directory, the manifest or a file is missing, malformed or of another version.
        """
        path = Path(path)
        manifest = read_manifest(path)
        opened = cls(path, manifest)
        for name in opened._matrices:  # a broken file should fail here, not at first use
            opened._owner(f"{name}.gain")
        manifest.update(opened._totals())
        return opened

    def _totals(self) -> dict[str, float | int]:
        """Sizes as they lie on disk: linear layers of the blocks, and every byte over weights."""
        records = [r for name, r in self._matrices.items() if name.startswith(BLOCKS)]
        weights = sum(r["shape"][0] * r["shape"][1] for r in records)
        bits = sum(r["bits_per_weight"] * r["shape"][0] * r["shape"][1] for r in records)
        return {
            "bits_per_weight_linear": bits / max(weights, 1),
            "bits_per_weight_file": 8 * self.nbytes / max(self.report["source"]["parameters"], 1),
            "file_bytes": self.nbytes,
        }

    @cached_property
    def config(self) -> dict[str, Any]:
        """The parsed ``config.json`` of the original."""
        return read_object(self.path / "config.json")

    @cached_property
    def _files(self) -> dict[str, SafetensorsFile]:
        names = self.report["files"]
        return {name: SafetensorsFile(contained(self.path, name)) for name in names}

    @cached_property
    def _tensors(self) -> dict[str, SafetensorsFile]:
        owners: dict[str, SafetensorsFile] = {}
        for file in self._files.values():
            for name in file.names:
                if name in owners:
                    raise FormatError(f"{file.path}: tensor {name} is stored in two files")
                owners[name] = file
        return owners

    def names(self) -> tuple[str, ...]:
        """Names of the original's tensors that are stored, packed or not."""
        parts = {f"{name}." for name in self._matrices}
        plain = (t for t in self._tensors if not any(t.startswith(p) for p in parts))
        return tuple(sorted({*self._matrices, *plain}))

    def has(self, name: str) -> bool:
        """Whether the original's tensor ``name`` is stored."""
        return name in self._matrices or name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor ``name``."""
        if name in self._matrices:
            return tuple(self._matrices[name]["shape"])
        return self._owner(name).info(name).shape

    def dense(self, name: str) -> NDArray[np.float32]:
        """The tensor ``name`` as float32, decoded if it is packed."""
        matrix = self.linear(name)
        return matrix.to_dense() if isinstance(matrix, PackedMatrix) else matrix

    def linear(self, name: str) -> PackedMatrix | NDArray[np.float32]:
        """The packed matrix ``name``, or float32 values where it is stored as float16."""
        record = self._matrices.get(name)
        if record is None:
            return self._owner(name).float32(name)
        return read_matrix(self._owner(f"{name}.gain"), name, record)

    def _owner(self, name: str) -> SafetensorsFile:
        try:
            return self._tensors[name]
        except KeyError:
            raise FormatError(f"{self.path}: tensor {name} is not stored") from None

    def other_files(self) -> tuple[Path, ...]:
        """Every file that is neither weights nor the manifest."""
        return tuple(f for f in other_files(self.path) if f.name != MANIFEST)

    def digest(self) -> str:
        """Digest of the source it was made from."""
        return str(self.report.get("source", {}).get("digest", ""))

    @property
    def nbytes(self) -> int:
        """Bytes of the weight files on disk, as of a dense checkpoint: JSON is not counted."""
        return sum((self.path / name).stat().st_size for name in self.report["files"])


def open_model_files(path: str | Path) -> Checkpoint | PackedCheckpoint:
    """Open a model directory, dense or compressed.

    Raises
    ------
    FormatError
        If it is neither.
    """
    path = snapshot_in(Path(path))
    if (path / MANIFEST).is_file():
        return PackedCheckpoint.open(path)
    return Checkpoint.open(path)
