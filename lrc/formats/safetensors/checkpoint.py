"""A dense checkpoint: a Hugging Face directory of config.json and safetensors shards."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lrc.base.strict_json import read_object
from lrc.base.threads import ordered_map
from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats import diagnose
from lrc.formats.diagnose import INDEX as INDEX
from lrc.formats.diagnose import SINGLE as SINGLE
from lrc.formats.finite import count_non_finite
from lrc.formats.hub import local_model
from lrc.formats.pages import release_pages
from lrc.formats.safetensors.file import SafetensorsFile, TensorInfo
from lrc.formats.side_files import contained, other_files
from lrc.formats.stored import StoredMatrix, widen
from lrc.formats.view import View

#: Bytes of tensors that are looked through before the memory that they take is given back.
_LOOKED_AT = 1 << 26


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights of a dense model, memory-mapped; make one with :meth:`open`.

    Attributes
    ----------
    path
        The directory.
    config
        Its config.json.
    shards
        Tensor name to the file that holds it.
    weight_files
        All files of weights.
    views
        Tensor name to where it lies in its file; empty where tensors are as they are stored.
    absent
        Tensors that the index names and their file lacks, with a line that says so.
    """

    path: Path
    config: dict[str, Any]
    shards: Mapping[str, SafetensorsFile]
    weight_files: tuple[Path, ...]
    views: Mapping[str, View] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    kind: ClassVar[str] = "dense"

    @classmethod
    def open(cls, path: Path | str, *, quantised: bool = False) -> Self:
        """Open a directory and check every header in it.

        A repository of the Hugging Face cache that has one snapshot stands for that snapshot.
        ``quantised`` allows weights that another program has quantised, whatever their tensors are.

        Raises
        ------
        FormatError
            Not a directory; no config.json or no safetensors weights; an index that leaves
            the directory or names a missing file; a malformed safetensors file.
        UnsupportedModelError
            The weights are quantised already.
        """
        root = local_model(path)
        if not root.is_dir():
            raise FormatError(diagnose.no_directory(root))
        if not (root / "config.json").is_file():
            raise FormatError(diagnose.no_config(root))
        config = read_object(contained(root, "config.json"), unique=False)
        method = diagnose.quantised_by(config)
        if method is not None and not quantised:
            raise UnsupportedModelError(
                f"the weights of {root} are quantised already ({method}); give the original model, "
                "in float32, float16 or bfloat16"
            )
        if (root / SINGLE).exists():
            file = SafetensorsFile(contained(root, SINGLE))
            return cls(root, config, dict.fromkeys(file.names, file), (file.path,))
        if (root / INDEX).exists():
            shards, absent = _open_index(root)
            files = sorted({file.path for file in shards.values()})
            return cls(root, config, shards, tuple(files), absent=absent)
        raise FormatError(diagnose.no_weights(root))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the choice of weight files."""
        note = diagnose.unread_index(self.path) if (self.path / SINGLE).exists() else None
        return () if note is None else (note,)

    def names(self) -> tuple[str, ...]:
        """Tensor names, sorted."""
        return tuple(sorted(self.shards))

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self.shards

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor; FormatError when there is none."""
        return self._view(name).shape(self.info(name).shape)

    def info(self, name: str) -> TensorInfo:
        """Header entry of the stored tensor in which a tensor lies; FormatError when none is."""
        return self._shard(name).info(self._view(name).stored)

    def check_dtypes(self, names: Iterable[str]) -> None:
        """Refuse tensors that :meth:`dense` would refuse for what their header says.

        Raises
        ------
        FormatError
            Naming the first.
        """
        for name in names:
            self._shard(name).check_dtype(self._view(name).stored)

    def close(self) -> None:
        """Let go of all files; nothing can be read any more."""
        for file in self.shards.values():
            file.close()

    @property
    def is_as_read(self) -> bool:
        """Whether tensors are those that a model reads: :meth:`reading` made it."""
        return bool(self.views)

    def reading(self, views: Mapping[str, View]) -> Checkpoint:
        """The same checkpoint with no other tensors than these, by name: where each lies.

        Bytes and digest stay those of all files.
        """
        if self.is_as_read:
            raise TypeError("views are of tensors as they are stored, not of views")
        shards = {name: self.shards[view.stored] for name, view in views.items()}
        return replace(self, shards=shards, views=dict(views))

    def stored_bytes(self, name: str) -> int:
        """Bytes of a tensor on disk; FormatError when there is none."""
        info = self.info(name)
        return info.nbytes * math.prod(self.shape(name)) // max(math.prod(info.shape), 1)

    def dense(self, name: str, *, check_finite: bool = False) -> NDArray[np.float32]:
        """Read one tensor as float32, its shape as stored.

        Parameters
        ----------
        name
            Tensor name.
        check_finite
            Refuse NaN and infinity.

        Raises
        ------
        FormatError
            No such tensor, not a floating-point one, or not finite.
        """
        self.check_dtypes([name])
        values = widen(self._read(name))
        if check_finite:
            self._refuse_non_finite(name, count_non_finite(values, "F32"))
        return values

    def check_finite(self, threads: int = 1) -> None:
        """Refuse NaN and infinity in any tensor, matrices and all others.

        Raises
        ------
        FormatError
            Naming the first.
        """

        def bad(name: str) -> int:
            return count_non_finite(self._read(name), self.info(name).dtype)

        names, seen = self.names(), 0
        for name, count in zip(names, ordered_map(bad, names, threads), strict=True):
            self._refuse_non_finite(name, count)
            seen += self.stored_bytes(name)
            if seen > _LOOKED_AT:  # mapped pages count as memory
                release_pages(self.shards.values())
                seen = 0
        release_pages(self.shards.values())

    def _refuse_non_finite(self, name: str, bad: int) -> None:
        if bad:
            raise FormatError(
                f"tensor {name!r} of {self.path} has {bad} values that are NaN or infinite; "
                "the checkpoint is damaged"
            )

    def linear(self, name: str, *, check_finite: bool = True) -> NDArray[np.float32]:
        """Read the weight of a linear layer, (out, in) float32; refuses non-finite values.

        Raises
        ------
        FormatError
            As :meth:`dense`, or the tensor is not a matrix.
        """
        if len(self.shape(name)) != 2:
            raise FormatError(f"tensor {name!r} has shape {self.shape(name)}; expected a matrix")
        return self.dense(name, check_finite=check_finite)

    def stored(self, name: str) -> StoredMatrix:
        """A matrix as it is on disk; refuses what :meth:`linear` refuses."""
        self.check_dtypes([name])
        values = self._read(name)
        self._refuse_non_finite(name, count_non_finite(values, self.info(name).dtype))
        return StoredMatrix(values)

    def other_files(self) -> tuple[Path, ...]:
        """Every visible file of the directory that holds no weights, config.json included."""
        return other_files(self.path)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the weight files on disk."""
        return sum(path.stat().st_size for path in self.weight_files)

    def digest(self) -> str:
        """SHA-256 (hex) over config.json and every weight file, headers included."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        total = hashlib.sha256()
        for path in (self.path / "config.json", *self.weight_files):
            total.update(file_digest(path))
        return total.hexdigest()

    def _view(self, name: str) -> View:
        return self.views.get(name) or View(name)

    def _read(self, name: str) -> NDArray[Any]:
        """The values of a tensor as they are stored; of a mapped file no other page is read."""
        view = self._view(name)
        return view.of(self._shard(name).read(view.stored))

    def _shard(self, name: str) -> SafetensorsFile:
        try:
            return self.shards[name]
        except KeyError:
            absent = self.absent.get(name, f"{self.path} has no tensor {name!r}")
            raise FormatError(absent) from None


def _open_index(root: Path) -> tuple[dict[str, SafetensorsFile], dict[str, str]]:
    """Tensor name to shard, and what model.safetensors.index.json says and its files lack.

    Files may hold tensors that the index does not name: they are there as well.
    """
    weight_map = read_object(contained(root, INDEX)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{root / INDEX} has no weight_map from tensor names to files")
    if not all(isinstance(name, str) for name in weight_map.values()):
        raise FormatError(f"{root / INDEX}: weight_map must give a file name for each tensor")
    files = {}
    for name in sorted(set(weight_map.values())):
        path = contained(root, name)
        if not path.is_file():
            raise FormatError(f"{root / INDEX} names {name}, which is missing; fetch it again")
        files[name] = SafetensorsFile(path)
    shards = {tensor: file for file in files.values() for tensor in file.names}
    absent = {}
    for tensor, name in weight_map.items():
        if tensor in files[name].names:
            shards[tensor] = files[name]
        else:
            shards.pop(tensor, None)
            absent[tensor] = f"{root / INDEX} puts {tensor!r} in {name}, which does not hold it"
    return dict(sorted(shards.items())), absent


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file, read in pieces; FormatError when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
