"""Moments that are not measured here: an importance matrix that llama.cpp has made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lrc.base.progress import Progress
from lrc.calibrate.corpus import described
from lrc.calibrate.examples import TextExamples
from lrc.convert.gguf.importance import importance_of
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.models.base import Model
from lrc.pipeline.job import Job
from lrc.pipeline.material import Material
from lrc.run.text import Tokenizer
from lrc.spec import CompressSpec

SOURCE = "an importance matrix"
#: What the finished model is tried on, as no text is to be run.
_SENTENCE = (
    "The sky is blue because air scatters short waves of light more than long ones, and so what "
    "comes to us from all sides is mostly blue; in the evening, what is left is red."
)
_MOST = 64


class ImatrixMaterial(Material):
    """Moments out of a file; one sentence runs, through the original and the finished model.

    Raises
    ------
    LrcError
        The file cannot be read or is of another model, or the spec asks for what needs text.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, spec: CompressSpec) -> None:
        self.spec = spec
        self._path = Path(spec.calibration.imatrix)
        self.importance = importance_of(model, self._path)
        ids = tokenizer.encode_prompt(_SENTENCE)[: min(_MOST, model.context)]
        self._windows = np.asarray(ids)[None]

    def identity(self) -> Iterator[str | bytes]:
        """The digest of the file."""
        yield file_digest(self._path)

    def examples(self, job: Job, progress: Progress) -> TextExamples:
        """The sentence."""
        journal = job.journal
        record = described(self._windows, SOURCE) | {"file": str(self._path)}
        journal.calibration = record
        if not journal.files:
            journal.warn(
                "moments are the diagonal ones of an importance matrix; embedding and head are "
                "rounded weight by weight"
            )
        return TextExamples(self._windows)
