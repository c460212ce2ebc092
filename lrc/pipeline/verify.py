"""Whether a compressed model is what its report says, from the bytes on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import chunks, resolve_threads
from lrc.errors import FormatError, LrcError, SpecError
from lrc.formats.hub import local_model
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.linalg.spectral import gram_pieces, spectral_bound
from lrc.models.base import Model
from lrc.models.opened import open_model, open_original
from lrc.models.speech import hears
from lrc.models.tensors import bias_of, linear_of
from lrc.parts.fields import MANIFEST
from lrc.parts.integrity import differing_files, unlisted_files, value_faults
from lrc.parts.manifest import CHECKSUMS, read_manifest
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.certificate import Certificate, certify, held_out_windows
from lrc.run.text import Tokenizer

#: Rows of a table that are decoded together.
_CHUNK_ROWS = 4096

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class MatrixError:
    """How far a stored matrix is from the original W, E = W - What.

    ``frobenius_error`` is ||E||_F / ||W||_F as it is on disk and ``recorded`` as the report has
    it, None where it has none. ``spectral_bound`` is a proven upper bound of ||E||_2
    (:func:`lrc.linalg.spectral.spectral_bound`), and ``frobenius_norm`` ||E||_F; What is the
    float32 matrix that decoding gives. ``relative_error``, in the metric of the inputs, and
    ``caldera_bound`` are those of the report.
    """

    frobenius_error: float
    recorded: float | None
    frobenius_norm: float
    spectral_bound: float
    relative_error: float | None
    caldera_bound: float | None


@dataclass(frozen=True)
class Verification:
    """What was looked at, and what differs from the report; nothing does where all is well.

    ``notes`` say what could not be looked at. ``errors`` are by matrix, where there was an
    original to compare with, and ``certificate`` has those on held-out text, where there was one.
    """

    path: Path
    files: int
    matrices: int
    has_checksums: bool
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    errors: dict[str, MatrixError]
    certificate: Certificate | None = None


class VerificationError(LrcError):
    """A model is not what its report says."""


def verify(
    folder: str | Path,
    original: str | Path | None = None,
    *,
    text: str | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Verification:
    """Look at every byte of a compressed model.

    Checksums of all files, structure, ranges of codes and scales, finiteness; with the original,
    also the errors of all matrices, recomputed from what is on disk, and with a ``text`` those of
    their outputs there, with standard errors (:mod:`lrc.pipeline.certificate`).

    Parameters
    ----------
    folder : path
        That `lrc.compress` has made.
    original : path, optional
        The directory it was made from.
    text : str, optional
        Held-out text, of which the first `lrc.pipeline.certificate.WINDOWS` windows are taken.
    threads : int, optional
        Never changes the result.
    progress : Progress

    Raises
    ------
    SpecError
        There is a text and no original.
    LrcError
        ``folder`` is no directory of a compressed model at all, or was not made from ``original``;
        or the text is shorter than one window.
    """
    if text is not None and original is None:
        raise SpecError("errors on a text are against the original: give the model as well")
    folder = local_model(folder)
    if not (folder / MANIFEST).is_file():
        read_manifest(folder)  # says so
    source, differences = _opened(folder)
    notes: list[str] = []
    if source is None:
        return Verification(folder, 0, 0, False, tuple(differences), (), {})
    differences += value_faults(source, progress)
    has_checksums = CHECKSUMS in source.report
    if not has_checksums:
        notes.append("it has no checksums: an older version of lrc wrote it")
    elif unlisted := unlisted_files(source):
        notes.append(f"not written with it, and not checked: {', '.join(unlisted)}")
    errors: dict[str, MatrixError] = {}
    certificate: Certificate | None = None
    if original is not None and not differences:
        model, dense = _original_of(source, Path(original))
        tuned = bool(source.report.get("tuned"))
        if tuned:
            notes.append("it was tuned: errors on record are those from before")
        differences += _plain_differences(source, dense, tuned=tuned)
        errors = _errors(source, dense, progress)
        differences += [] if tuned else _error_differences(source, errors)
        if any(error.recorded is None for error in errors.values()):
            notes.append("errors of weights alone are not on record: there is nothing to compare")
        if text is not None and hears(model):
            notes.append("a speech model: there are no errors on held-out text")
        elif text is not None:
            windows = held_out_windows(model, Tokenizer.open(source.path), text)
            certificate = certify(source, model, windows, resolve_threads(threads), progress)
    elif original is not None:
        notes.append("not compared with the original, as it is not what was written")
    return Verification(
        path=folder,
        files=len(source.report.get(CHECKSUMS) or source.report["files"]),
        matrices=len(source.report["matrices"]),
        has_checksums=has_checksums,
        differences=tuple(dict.fromkeys(differences)),
        notes=tuple(notes),
        errors=errors,
        certificate=certificate,
    )


def _opened(folder: Path) -> tuple[PackedCheckpoint | None, list[str]]:
    """The files as a model reads them, and what differs; None where they cannot be opened."""
    found: list[str] = []
    try:
        found += differing_files(folder)
        _, source = open_model(folder)
    except FormatError as error:
        return None, [*found, str(error)]
    if not isinstance(source, PackedCheckpoint):
        raise FormatError(f"{folder} is not compressed; give a directory that lrc compress made")
    return source, found


def _original_of(source: PackedCheckpoint, original: Path) -> tuple[Model, Checkpoint]:
    model, dense = open_original(original)
    if dense.digest() != source.digest():
        raise SpecError(
            f"{source.path} was not made from {original}; give the model it was made from"
        )
    return model, dense


def _plain_differences(
    source: PackedCheckpoint, dense: Checkpoint, *, tuned: bool
) -> Iterator[str]:
    """Tensors that are stored as they were, and are not."""
    packed = set(source.report["matrices"])
    corrected = {bias_of(linear_of(name)) for name in packed} if _has_biases(source) else set()
    for name in sorted(set(source.names()) - packed - corrected):
        stored, wanted = source.dense(name), dense.dense(name)
        if source.stored_bytes(name) == 2 * stored.size:
            with np.errstate(over="ignore", under="ignore"):
                wanted = wanted.astype(np.float16).astype(np.float32)
        if stored.shape != wanted.shape or not (tuned or np.array_equal(stored, wanted)):
            yield f"{name} is not that of the original"


def _has_biases(source: PackedCheckpoint) -> bool:
    """Whether layers got biases of their own, when they were compressed or tuned."""
    spec = source.report.get("spec")
    made = source.report.get("tuned", ())
    tuned = any("added" in one.get("spec", {}).get("what", ()) for one in made)
    return tuned or (isinstance(spec, dict) and bool(spec.get("bias")))


def _errors(
    source: PackedCheckpoint, dense: Checkpoint, progress: Progress
) -> dict[str, MatrixError]:
    records = source.report["matrices"]
    found = {}
    with progress.bar("errors", len(records), "matrix") as advance:
        for name, record in records.items():
            matrix = source.linear(name)
            assert isinstance(matrix, PackedMatrix)
            found[name] = _error(matrix, dense.dense(name), record)
            advance()
    return found


def _error(matrix: PackedMatrix, W: NDArray[np.float32], record: dict[str, Any]) -> MatrixError:
    m, n = matrix.shape
    squares = 0.0

    def pieces() -> Iterator[F64]:
        nonlocal squares
        for E in _differences(matrix, W):
            squares += float(np.einsum("ij,ij->", E, E))
            yield from gram_pieces(E, min(m, n))

    bound = spectral_bound(pieces(), min(m, n), max(m, n))
    norm, whole = math.sqrt(squares), math.sqrt(float(np.einsum("ij,ij->", W, W, dtype=np.float64)))
    return MatrixError(
        frobenius_error=norm / whole if whole > 0 else 0.0,
        recorded=record.get("frobenius_error"),
        frobenius_norm=norm,
        spectral_bound=bound,
        relative_error=record.get("relative_error"),
        caldera_bound=record.get("caldera_bound"),
    )


def _differences(matrix: PackedMatrix, W: NDArray[np.float32]) -> Iterator[F64]:
    """E in float64, whole, or by rows where these decode alone and are the longer side."""
    m, n = matrix.shape
    if m >= n and matrix.signs_out is None:
        for rows in chunks(m, _CHUNK_ROWS):
            yield W[rows].astype(np.float64) - matrix.original_rows(rows)
    else:
        yield W.astype(np.float64) - matrix.to_dense()


def _error_differences(source: PackedCheckpoint, errors: dict[str, MatrixError]) -> Iterator[str]:
    """Errors that are not those on record, to the rounding of two ways to compute them."""
    for name, error in errors.items():
        if error.recorded is None:
            continue
        m, n = source.shape(name)
        slack = error_tolerance(m, n, error.recorded)
        if not abs(error.frobenius_error - error.recorded) <= slack:
            yield (
                f"{name} has the relative error {error.frobenius_error:.7g}, and on record is "
                f"{error.recorded:.7g}"
            )


def error_tolerance(m: int, n: int, error: float) -> float:
    """What two computations of ||E||_F / ||W||_F = ``error`` in float32 may differ by.

    One is in the rotated basis and one in the original one. A rotation of length k adds
    log2(k) numbers to each other, signs and scales are two roundings more, and there and back
    both W and What are rotated: 4 (log2(m n) + 4) roundings of a part of at most ||W||_F, or
    ||What||_F <= (1 + error) ||W||_F, each.
    """
    return 4 * (math.log2(m * n) + 4) * float(np.finfo(np.float32).eps) / 2 * (1 + error)


def require_same(found: Verification) -> None:
    """Refuse a model that differs.

    Raises
    ------
    VerificationError
        Naming everything that does.
    """
    if found.differences:
        raise VerificationError(
            f"{found.path} is not what its report says: {'; '.join(found.differences)}"
        )
