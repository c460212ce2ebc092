"""Compressed models on disk: version 2.

A directory holds ``config.json`` and every other non-weight file of the source, byte for byte,
and

``lrc.json``
    ``format`` "lrc"; ``version`` 2; ``library``; ``spec`` (every parameter); ``source``
    (``digest`` sha256 of config and weights, ``parameters``; of a model of the hub also its
    ``name`` and ``commit``); ``files`` (names of the safetensors files); ``matrices`` (name ->
    record); ``calibration`` (tokens seen and dropped); ``warnings``; where bits were chosen for a
    budget, ``allocation`` (the budget, what came of it); where it was tuned, ``tuned`` (a list:
    options, tokens, divergences of held-out text before and after; errors in records are those
    from before); ``sha256``, which older files lack (hex digits by the name of each file, the
    manifest's own taken with 64 zeros in their place), ``self_test``
    (:mod:`lrc.measure.self_test`; from before it was tuned) and ``arithmetic``, which decided how
    sums were rounded (``processor``, ``blas``, ``numpy``: :mod:`lrc.base.arithmetic`).
``shell.safetensors``
    embedding, final norm and, when it is not tied, the head.
``block-00000.safetensors`` ...
    one decoder block each. Tuned files have other names: ``block-00000.tuned-1.safetensors``.

A record names the matrix's ``file``, its ``role`` (matrix, of a linear layer in a block; embedding;
head; older files lack it), ``shape`` [m, n], ``rotation`` and ``parts`` and the measured
``bits_per_weight``, ``relative_error``, ``weight_error``, ``frobenius_error`` (which older files
lack), ``damping``, ``notes`` and ``trace``, where theory has one a ``caldera_bound``, the
``shrinkage`` of the moments that errors are measured with, and the ``reason`` of a matrix whose
parameters are its own; of an expert's, ``routed_tokens`` and the share of its moments that is
``borrowed`` from other tokens. Each of ``parts`` is an object with a ``kind`` and the fields that
the file of that kind in this package describes, as are the part's tensors: :mod:`lrc.parts.codes`,
:mod:`lrc.parts.low_rank`, :mod:`lrc.parts.kept`, and :mod:`lrc.parts.on_basis`, which reads tensors
of another matrix, too. Tensors of the matrix ``NAME`` (checkpoint key, with ``.weight``), all
little-endian:

=================== ======== ===================== ===========================================
tensor              dtype    shape                 meaning
=================== ======== ===================== ===========================================
NAME.gain           F32      (1,)                  multiplies every part
NAME.signs_in       U8       ceil(n/8)             bit i (from the lowest) set: input i is negated
NAME.signs_out      U8       ceil(m/8)             the same for outputs; of a side that is rotated
NAME.signs_in, _out I8       n, m                  numbers in their place, once they were tuned
NAME.TENSOR                                        tensors of the first part of each kind
NAME.I.TENSOR                                      those of a further one, at place I of ``parts``
=================== ======== ===================== ===========================================

Rotated, W = S_out M_m^T gain (sum of parts) M_n S_in with M of lrc_kernels/rotate.py. Its
``rotation`` is "none", "hadamard" where both S are bits, "hadamard-real-in", "hadamard-real-out" or
"hadamard-real" where that of inputs, of outputs or both are I8 (:mod:`lrc.parts.signs`), "inputs"
where outputs are not rotated, as those of embeddings and heads. Tensors that are not compressed
keep their name: norms and biases F32, 16-bit embeddings and heads F16. A linear layer may have a
bias ``NAME.bias`` (its name without ``.weight``) that ``config.json`` knows nothing of, F32 or,
where tuning has added it, F16.

Version 1 differs in the records alone: :mod:`lrc.parts.v1` reads it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.strict_json import read_object
from lrc.errors import FormatError
from lrc.formats.hub import local_model
from lrc.formats.pages import release_pages
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.side_files import contained, other_files
from lrc.formats.view import View
from lrc.parts import v1
from lrc.parts.base import Specs
from lrc.parts.fields import MANIFEST as MANIFEST
from lrc.parts.fields import QUALITY, RUN
from lrc.parts.layout import (
    borrowed_tensors,
    check_record,
    check_tensor,
    stored_bytes,
    stored_layout,
)
from lrc.parts.manifest import FORMAT as FORMAT
from lrc.parts.manifest import FORMAT_VERSION as FORMAT_VERSION
from lrc.parts.manifest import read_manifest
from lrc.parts.matrix import PackedMatrix
from lrc.parts.stored_matrix import matrix_record as matrix_record
from lrc.parts.stored_matrix import matrix_tensors as matrix_tensors
from lrc.parts.stored_matrix import read_matrix as read_matrix


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

    @classmethod
    def open(cls, path: str | Path) -> PackedCheckpoint:
        """Read the manifest and every file's header, and check them against each other.

        Every tensor of every matrix is there, of the dtype and shape that its record implies, and
        none is left over. ``bits_per_weight`` of each record is counted from them: what the
        manifest says of it is not believed.

        Raises
        ------
        FormatError
            If the directory, the manifest or a file is missing, malformed or of another version.
        """
        path = Path(path)
        return cls.described(path, read_manifest(path))

    @classmethod
    def described(cls, path: Path, manifest: Mapping[str, Any]) -> PackedCheckpoint:
        """The same by a manifest that need not be on disk yet; it is not modified."""
        opened = cls(path, copy.deepcopy(dict(manifest)))
        opened._check_records()
        for name, record in opened._matrices.items():
            m, n = record["shape"]
            record["bits_per_weight"] = 8 * opened.stored_bytes(name) / (m * n)
        opened._check_borrowed()
        opened._check_leftovers()
        return opened

    def _check_records(self) -> None:
        """Refuse records that are malformed, and translate those of version 1."""
        if self.report["version"] == 1:
            self.report["matrices"] = {
                name: v1.translated(self._owner(f"{name}.gain"), name, record)
                for name, record in self._matrices.items()
            }
        for name, record in self._matrices.items():
            check_record(name, record)

    @cached_property
    def basis_holders(self) -> frozenset[str]:
        """Matrices whose R is that of others, too (:mod:`lrc.parts.on_basis`)."""
        parts = (part for record in self._matrices.values() for part in record["parts"])
        return frozenset(part["basis"] for part in parts if "basis" in part)

    def _check_borrowed(self) -> None:
        for record in self._matrices.values():
            for tensor, spec in borrowed_tensors(record).items():
                check_tensor(self._owner(tensor), tensor, spec)

    @property
    def _matrices(self) -> dict[str, dict[str, Any]]:
        records: dict[str, dict[str, Any]] = self.report["matrices"]
        return records

    @cached_property
    def _parts(self) -> dict[str, Specs]:
        """The tensors of every matrix."""
        return {
            name: stored_layout(self._owner(f"{name}.gain"), name, record)
            for name, record in self._matrices.items()
        }

    @cached_property
    def _plain(self) -> frozenset[str]:
        """Tensors that are no part of a matrix."""
        return frozenset(self._tensors).difference(*self._parts.values())

    def _check_leftovers(self) -> None:
        for tensor in sorted(self._plain):
            whole = accumulate(tensor.split("."), "{}.{}".format)
            packed = self._owner(tensor).info(tensor).dtype not in ("F16", "F32")
            if packed or not self._matrices.keys().isdisjoint(whole):
                raise FormatError(
                    f"{self._owner(tensor).path}: tensor {tensor} is no part of any matrix that "
                    f"{MANIFEST} describes; the two do not belong together"
                )

    @cached_property
    def config(self) -> dict[str, Any]:
        """The parsed ``config.json`` of the original."""
        return read_object(self.path / "config.json", unique=False)

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

    def release(self) -> None:
        """Give back the memory of what was read of the files; it is read again when needed."""
        release_pages(self._files.values())

    def close(self) -> None:
        """Let go of all files; nothing can be read any more."""
        for file in self._files.values():
            file.close()

    @property
    def is_as_read(self) -> bool:
        """Always: a compressed model holds its tensors under the names by which it reads them."""
        return True

    def reading(self, views: Mapping[str, View]) -> PackedCheckpoint:
        """Refused: there is no other layout."""
        raise TypeError("a compressed model has no other layout than its own")

    def names(self) -> tuple[str, ...]:
        """Names of the original's tensors that are stored, packed or not."""
        return tuple(sorted({*self._matrices, *self._plain}))

    def has(self, name: str) -> bool:
        """Whether the original's tensor ``name`` is stored."""
        return name in self._matrices or name in self._plain

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor ``name``."""
        if name in self._matrices:
            return tuple(self._matrices[name]["shape"])
        return self._owner(name).info(name).shape

    def roles(self) -> dict[str, str] | None:
        """What every compressed matrix is, by name; None in files that do not say."""
        if any("role" not in record for record in self._matrices.values()):
            return None
        return {name: record["role"] for name, record in self._matrices.items()}

    def stored_bytes(self, name: str) -> int:
        """Bytes on disk of the tensor ``name``, of all parts of a packed one; no headers."""
        if name in self._matrices:
            return stored_bytes(self._parts[name])
        return self._owner(name).info(name).nbytes

    def dense(self, name: str) -> NDArray[np.float32]:
        """The tensor ``name`` as float32, decoded if it is packed."""
        matrix = self.linear(name)
        return matrix.to_dense() if isinstance(matrix, PackedMatrix) else matrix

    def linear(self, name: str) -> PackedMatrix | NDArray[np.float32]:
        """The packed matrix ``name``, or float32 values where it is stored as float16."""
        record = self._matrices.get(name)
        if record is None:
            return self._owner(name).float32(name)
        return read_matrix(self._owner(f"{name}.gain"), name, record, self._owner)

    def _owner(self, name: str) -> SafetensorsFile:
        try:
            return self._tensors[name]
        except KeyError:
            raise FormatError(f"{self.path}: tensor {name} is not stored") from None

    def other_files(self) -> tuple[Path, ...]:
        """Every file of the original that is no weights: neither the manifest nor figures."""
        return tuple(f for f in other_files(self.path) if f.name not in (MANIFEST, QUALITY, RUN))

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
    path = local_model(path)
    if (path / MANIFEST).is_file():
        return PackedCheckpoint.open(path)
    return Checkpoint.open(path)
