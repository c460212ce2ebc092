"""Embedding and head of a compression, rounded and written with what else is outside blocks."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import Progress
from lrc.calibrate.streams import Inputs
from lrc.calibrate.table_options import TableOptions
from lrc.codebooks import TABLES
from lrc.models.tensors import EMBEDDING, HEAD
from lrc.parts.matrix import PackedMatrix
from lrc.pipeline.block_files import plain_tensors, write_file
from lrc.pipeline.job import Job
from lrc.quant.tables import TABLES_FILE, read_table, store_table

Table: TypeAlias = "PackedMatrix | NDArray[np.float32]"


def write_tables(job: Job, inputs: Inputs, progress: Progress) -> Table:
    """Write embedding and head with what else is outside the blocks; return the embedding.

    Where an unfinished run has written them, they are read.
    """
    names, journal = job.model.tensors.tables, job.journal
    if TABLES_FILE in journal.files:
        name = names[EMBEDDING]
        return read_table(job.folder / TABLES_FILE, name, journal.records.get(name))
    embed_bits, head_bits = job.spec.table_bits()
    how, spec = _table_options(job, inputs, progress), job.spec
    name = names[EMBEDDING]
    packed, tensors, records = store_table(
        job.source, name, embed_bits, EMBEDDING, spec.embed_codebook, **how[name]
    )
    if name := names.get(HEAD, ""):
        _, head, of_head = store_table(
            job.source, name, head_bits, HEAD, spec.head_codebook, **how[name]
        )
        tensors, records = tensors | head, records | of_head
    elif head_bits != embed_bits:
        journal.warn(
            f"the head is tied to the embedding: stored once at {embed_bits} bits, "
            f"head bits {head_bits} not used"
        )
    journal.records |= records
    write_file(job, TABLES_FILE, tensors | plain_tensors(job, None))
    journal.save(job.folder)
    return packed


def _table_options(job: Job, inputs: Inputs, progress: Progress) -> TableOptions:
    """How tables are rounded; a head at 16 bits, or in blocks, needs no hidden states."""
    spec, tied = job.spec, HEAD not in job.model.tensors.tables
    bits = spec.table_bits()[0 if tied else 1]
    codebook = spec.embed_codebook if tied else spec.head_codebook
    if bits == 16 or codebook != TABLES or job.importance is not None:
        return TableOptions.plain(job.model, spec, job.threads)
    return TableOptions.of(job.model, inputs, spec, job.threads, progress)
