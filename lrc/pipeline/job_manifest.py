"""The manifest of a compression: what was asked for, of which model, and what came of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lrc import __version__
from lrc.base.arithmetic import arithmetic
from lrc.formats.hub_cache import repository_of
from lrc.models.speech import hears
from lrc.parts.manifest import ARITHMETIC, CHECKSUMS, FORMAT, FORMAT_VERSION
from lrc.pipeline.health import health_warnings
from lrc.pipeline.job import Job
from lrc.quant.tables import TABLES_FILE


def manifest_of(job: Job, tokens: int, allocation: dict[str, Any] | None) -> dict[str, Any]:
    """All of the manifest but its self-test; warnings of its records go to the journal.

    ``tokens`` were seen in calibration; ``allocation`` is the summary of a budget, if any.
    """
    source, journal = job.source, job.journal
    dropped = sum(journal.dropped.values())
    decompose = job.spec.decompose
    blind = decompose.recipe == "round-to-nearest" and decompose.low_rank.rank == 0
    text_alone = not (job.spec.calibration.imatrix or hears(job.model))
    seen = tokens if text_alone and not blind else None
    journal.warn(*health_warnings(job.model, journal.records, dropped, seen))
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "library": f"lrc-llm {__version__}",
        "spec": job.spec.to_dict(),
        ARITHMETIC: arithmetic(),
        **({"allocation": allocation} if allocation else {}),
        "source": {
            **_origin(source.path),
            "digest": source.digest(),
            "parameters": sum(math.prod(source.shape(name)) for name in source.names()),
        },
        "calibration": {
            "tokens": tokens,
            "dropped_rows": dropped,
            **journal.calibration,
        },
        "files": sorted(journal.files, key=lambda name: (name != TABLES_FILE, name)),
        "matrices": journal.records,
        "warnings": journal.warnings,
        CHECKSUMS: dict(sorted(journal.checksums.items())),
    }


def _origin(folder: Path) -> dict[str, str]:
    """Name and commit of a model of the hub."""
    known = repository_of(folder)
    return {} if known is None else {"name": known[0], "commit": known[1]}
