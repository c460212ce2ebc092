"""Figures of evaluations, kept in the directory of the compressed model that they are of.

``lrc-quality.json`` has ``format`` "lrc-quality", ``version`` 1, ``evaluations``, a list of
:class:`KeptEvaluation` as objects, and ``samples``, a list of
:class:`~lrc.measure.samples.Sample`, where there are any. Each names the model by a digest of what
its ``lrc.json`` says of weights: once the model was changed, figures of before are no longer its
own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lrc.base.atomic import atomic_write_json
from lrc.base.record import Record
from lrc.base.strict_json import read_object
from lrc.errors import FormatError, SpecError
from lrc.formats.hub_cache import refuse_cached
from lrc.measure.samples import Sample
from lrc.parts.fields import QUALITY
from lrc.parts.manifest import CHECKSUMS, read_manifest
from lrc.parts.packed import PackedCheckpoint

FORMAT, VERSION = "lrc-quality", 1
#: What says which predictions an evaluation is of.
SAMPLE = ("text", "text_digest", "ctx", "windows", "score", "against")


@dataclass(frozen=True)
class KeptEvaluation(Record):
    """An evaluation and what it was taken on.

    ``model`` is that of :func:`model_digest`; ``text`` and ``against`` are names without folders,
    ``text_digest`` is of the text; the rest is as in `lrc.measure.evaluate.Evaluation`.
    """

    model: str
    text: str
    text_digest: str
    ctx: int
    windows: int
    tokens: int
    score: str
    activations: str
    perplexity: float | None = None
    perplexity_stderr: float | None = None
    against: str = ""
    perplexity_ratio: float | None = None
    perplexity_ratio_interval: tuple[float | None, ...] | None = None
    kl_divergence: float | None = None
    kl_interval: tuple[float | None, ...] | None = None
    top1_agreement: float | None = None

    @classmethod
    def of(cls, figures: dict[str, Any], **known: Any) -> Self:
        """An evaluation from a record that has more in it, and what that does not know."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in figures.items() if name in names} | known)

    @property
    def conditions(self) -> tuple[Any, ...]:
        """What it was taken on."""
        return (*self.sample, self.activations)

    @property
    def sample(self) -> tuple[Any, ...]:
        """The predictions that it is of: figures are comparable where these are the same."""
        return tuple(getattr(self, name) for name in SAMPLE)


@dataclass(frozen=True)
class Quality:
    """Evaluations of a model as it is now, oldest first, how many are of before, and answers."""

    evaluations: tuple[KeptEvaluation, ...]
    outdated: int
    samples: tuple[Sample, ...] = ()


def model_digest(source: PackedCheckpoint) -> str:
    """Digest of what the manifest says of weights: it changes with whatever changes these."""
    manifest = read_manifest(source.path)
    checksums = manifest.get(CHECKSUMS, {})
    known = [manifest.get(field) for field in ("source", "files", "matrices", "tuned")]
    known.append([checksums.get(name) for name in manifest["files"]])
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def text_digest(text: str) -> str:
    """Digest of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def kept_quality(source: PackedCheckpoint) -> Quality:
    """The evaluations that are kept in the directory of a model; none where there is no file.

    Raises
    ------
    FormatError
        The file is malformed.
    """
    every, answers = _read(source.path / QUALITY)
    digest = model_digest(source)
    current = tuple(one for one in every if one.model == digest)
    said = tuple(one for one in answers if one.model == digest)
    return Quality(current, len(every) - len(current), said)


def keep(source: PackedCheckpoint, found: KeptEvaluation, answers: Sequence[Sample] = ()) -> Path:
    """Add an evaluation to those of a model; one taken on the same gives way to it.

    Those of what the model was before go. ``answers`` take the place of earlier ones, where there
    are any.

    Raises
    ------
    FormatError
        The file that is there is malformed, or the model lies in the cache of the hub.
    """
    path = source.path / QUALITY
    refuse_cached(source.path)
    kept = kept_quality(source)
    others = (e for e in kept.evaluations if e.conditions != found.conditions)
    said = answers or kept.samples
    atomic_write_json(
        path,
        {
            "format": FORMAT,
            "version": VERSION,
            "evaluations": [one.to_dict() for one in (*others, found)],
            **({"samples": [one.to_dict() for one in said]} if said else {}),
        },
    )
    return path


def _read(path: Path) -> tuple[list[KeptEvaluation], list[Sample]]:
    if not path.is_file():
        return [], []
    content = read_object(path)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise FormatError(
            f"{path} is not of {FORMAT} version {VERSION}; remove it and evaluate again"
        )
    try:
        return (
            [KeptEvaluation.from_dict(one) for one in content.get("evaluations", [])],
            [Sample.from_dict(one) for one in content.get("samples", [])],
        )
    except (SpecError, TypeError) as error:
        raise FormatError(f"{path}: {error}; remove it and evaluate again") from None
