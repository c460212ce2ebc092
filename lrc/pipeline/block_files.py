"""The files of a compression while it runs: one a block, and what is read of them again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.base.own_files import reading
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import check_written, write_safetensors
from lrc.models.tensors import bias_of, linear_of
from lrc.parts.packed import FORMAT, read_matrix
from lrc.pipeline.job import Job
from lrc.quant.tables import Tensors


def file_of(block: int) -> str:
    """Name of a block's file."""
    return f"block-{block:05d}.safetensors"


def read_stored(job: Job, stored: SafetensorsFile, name: str) -> NDArray[np.float32]:
    """A matrix that an earlier run has written, decoded."""
    record = job.journal.records.get(name)
    with reading(stored.path):
        if record is None:
            return stored.float32(name).copy()
        return read_matrix(stored, name, record).to_dense()


def stored_bias(stored: SafetensorsFile, name: str) -> NDArray[np.float32] | None:
    """The bias (m,) that an earlier run has written beside a matrix, if any."""
    bias = bias_of(linear_of(name))
    return stored.float32(bias).copy() if bias in stored.names else None


def plain_tensors(job: Job, block: int | None) -> Tensors:
    """Norms and biases of a block, or of what is outside all of them."""
    names = job.model.tensors.plain(block).values()
    return {name: job.source.dense(name) for name in names}


def write_file(job: Job, file: str, tensors: Tensors) -> None:
    """Write a file, read it back, and put it on record."""
    job.journal.checksums[file] = write_safetensors(job.folder / file, tensors, {"format": FORMAT})
    check_written(job.folder / file, tensors)  # errors on record are of these arrays
    job.journal.files.append(file)
