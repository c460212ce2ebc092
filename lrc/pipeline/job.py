"""What every step of a compression reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.base import Model
from lrc.pipeline.bases import Bases
from lrc.pipeline.journal import Journal
from lrc.pipeline.metric import GradientStore
from lrc.pipeline.time_limit import TimeLimit
from lrc.spec import CompressSpec, MatrixSpec


@dataclass(frozen=True)
class Job:
    """What every step of one compression reads, and the journal it writes."""

    source: Checkpoint
    model: Model
    spec: CompressSpec
    threads: int
    folder: Path
    journal: Journal
    gradients: GradientStore | None = None
    importance: Mapping[str, NDArray[np.float64]] | None = None
    limit: TimeLimit | None = None
    bases: Bases | None = None

    def as_lowered(self) -> Job:
        """The same with what the journal says of matrices that were late."""
        late = {name: MatrixSpec.from_dict(of) for name, of in self.journal.lowered.items()}
        return replace(self, spec=replace(self.spec, matrices=self.spec.matrices | late))

    @property
    def original_only(self) -> bool:
        """Whether moments come from the original model alone."""
        return self.spec.calibration.streams == "original"

    @property
    def two_streams(self) -> bool:
        """Whether the original's inputs enter the target beside the compressed prefix's."""
        calibration = self.spec.calibration
        wanted = calibration.mix > 0.0 or calibration.repair > 0.0 or self.spec.distil.epochs > 0
        return wanted and not self.original_only
