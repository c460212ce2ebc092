"""L R of a compressed model as an adapter for PEFT, over the same model without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import check_output
from lrc.convert.integers import Progress
from lrc.convert.peft import names_of, write_adapter
from lrc.convert.plain_codes import has_low_rank
from lrc.errors import SpecError
from lrc.models.opened import open_model
from lrc.parts.low_rank import LowRank
from lrc.parts.matrix import PackedMatrix
from lrc.parts.signs import unpack_signs
from lrc.refine.adapter import Factors
from lrc_kernels.rotate import hadamard_transform

F32 = NDArray[np.float32]


def export_peft(
    packed_dir: Path | str,
    out_dir: Path | str,
    progress: Progress | None = None,
    *,
    note: Callable[[str], None] | None = None,
) -> Path:
    """Write the factors of a model as an adapter.

    The model beneath is one whose matrices are Q alone: what ``lrc export --to compressed-tensors``
    or ``--to gptq`` has written, or ``--to hf-codes``, which is dense. Over the original, or over
    ``--to hf``, which has L R already, the adapter is wrong, and its configuration says so.

    Parameters
    ----------
    packed_dir
        A compressed directory with L R.
    out_dir
        Made by this call; must not exist.
    progress
        Told after each matrix.
    note
        Told what the adapter belongs to.

    Returns
    -------
    Path
        ``out_dir``.

    Raises
    ------
    SpecError
        The model has no L R.
    UnsupportedModelError
        Matrices of this family are no tensors of their own elsewhere.
    OutputError
        ``out_dir`` exists or cannot be written.
    """
    target = Path(out_dir)
    check_output(target)
    model, source = open_model(packed_dir)
    names = names_of(model)
    having = [name for name in names if has_low_rank(source.linear(name))]
    if not having:
        raise SpecError(f"no matrix of {packed_dir} has L R: there is nothing to adapt with")
    factors: dict[str, Factors] = {}
    for done, name in enumerate(having, 1):
        matrix = source.linear(name)
        assert isinstance(matrix, PackedMatrix)
        factors[name] = factors_of(matrix)
        if progress is not None:
            progress("exporting factors", done, len(having))
    write_adapter(target, factors, names, f"{packed_dir} without L R", dtype=np.float32)
    for line in (*model.notes, "the adapter belongs over the model without its L R: what "
                 "lrc export --to hf-codes, compressed-tensors or gptq writes"):  # fmt: skip
        if note is not None:
            note(line)
    return target


def factors_of(matrix: PackedMatrix) -> Factors:
    """The sum of the factors L R of a matrix, of the rank of all, in its original basis."""
    pairs = [_original(matrix, *part.factored()) for part in _low_ranks(matrix)]
    left = np.concatenate([pair[0] for pair in pairs], axis=1)
    right = np.concatenate([pair[1] for pair in pairs])
    return Factors(down=right, up=np.ascontiguousarray(left.T))


def _low_ranks(matrix: PackedMatrix) -> Iterator[LowRank]:
    return (part for part in matrix.terms if isinstance(part, LowRank))


def _original(matrix: PackedMatrix, left: F32, right: F32) -> tuple[F32, F32]:
    """L (m, r) and R (r, n) with the rotation of the outputs and of the inputs undone."""
    m, n = matrix.shape
    out, into = unpack_signs(matrix.signs_out, m), unpack_signs(matrix.signs_in, n)
    if out is not None:
        left = hadamard_transform(np.ascontiguousarray(left.T), transpose=True).T * out[:, None]
    if into is not None:
        right = hadamard_transform(np.ascontiguousarray(right), transpose=True) * into
    return left, right
