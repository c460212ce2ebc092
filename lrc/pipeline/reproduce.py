"""A compressed model once more, from the spec and seed that it was stored with."""

from __future__ import annotations

import operator
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lrc import __version__
from lrc.base.atomic import check_output
from lrc.base.progress import SILENT, Progress
from lrc.calibrate.corpus import GIVEN
from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.formats.side_files import contained
from lrc.models.opened import open_original
from lrc.parts.manifest import ARITHMETIC, CHECKSUMS, read_manifest
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.compress import compress
from lrc.refine.options import TuneSpec
from lrc.refine.tune import tune
from lrc.spec import CompressSpec

#: Fields that a run from the stored spec does not have, or says of itself.
_NOT_COMPARED = ("allocation", "library", ARITHMETIC, CHECKSUMS)
#: Names that are listed before the rest is counted.
_LISTED = 3


@dataclass(frozen=True)
class Reproduction:
    """What came of compressing again: what differs, and where the new directory lies if any does.

    ``notes`` say what may be the cause.
    """

    path: Path
    files: int
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    again: Path | None


def reproduce(
    folder: str | Path,
    original: str | Path | None = None,
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Reproduction:
    """Compress the original again by the stored spec, and compare every file with ``folder``.

    The same release gives the same bytes on the same kind of processor, on any number of threads;
    processors with other vector instructions may round sums otherwise, unless it was compressed
    with ``portable``. The new directory,
    ``FOLDER.reproduced``, is removed where nothing differs. A run that is interrupted goes on with
    the same call.

    Parameters
    ----------
    folder : path
        That `lrc.compress` has made. Files of calibration text are where they were.
    original : path, optional
        The directory it was made from; of a model of the hub, that is on record.
    threads : int, optional
    progress : Progress

    Raises
    ------
    SpecError
        There is no ``original`` on record; it was made from another model, was tuned for some
        minutes, or was calibrated on tokens that are not stored.
    LrcError
        As `lrc.compress`.
    """
    folder = Path(folder)
    source = PackedCheckpoint.open(folder)
    original = _on_record(source) if original is None else original
    _check(source, Path(original))
    again = folder.absolute().with_name(folder.absolute().name + ".reproduced")
    check_output(again)
    spec = CompressSpec.from_dict(source.report["spec"])
    compress(original, again, spec, threads=threads, progress=progress)
    _tune_again(source, again, Path(original), threads, progress)
    made = PackedCheckpoint.open(again)
    differences = tuple(_differences(source, made))
    notes = []
    library = f"lrc-llm {__version__}"
    if (theirs := source.report.get("library")) != library:
        notes.append(f"it was written by {theirs}, and this is {library}")
    if note := _rounded_otherwise(source.report.get(ARITHMETIC), made.report[ARITHMETIC]):
        notes.append(note)
    if differences:
        notes.append(f"what was made now lies in {again}")
    else:
        shutil.rmtree(again)
    files = len(_files(source))
    return Reproduction(folder, files, differences, tuple(notes), again if differences else None)


def is_portable(folder: str | Path) -> bool:
    """Whether a compressed model was made to have the same bytes on processors of all types."""
    spec = read_manifest(Path(folder)).get("spec")
    return isinstance(spec, dict) and spec.get("portable") is True


def _on_record(source: PackedCheckpoint) -> str:
    """The model of the hub that it was made from, with its commit."""
    name, commit = (source.report["source"].get(what) for what in ("name", "commit"))
    if not (isinstance(name, str) and isinstance(commit, str)):
        raise SpecError(
            f"{source.path} was made from a directory, and where that lies is not stored; give it "
            "with --original"
        )
    return f"{name}@{commit}"


def _check(source: PackedCheckpoint, original: Path) -> None:
    _, dense = open_original(original)
    if dense.digest() != source.digest():
        raise SpecError(
            f"{source.path} was not made from {original}; give the model it was made from"
        )
    if any(one.get("shortened", True) for one in source.report.get("tuned", ())):
        raise SpecError(
            f"{source.path} was tuned for some minutes, or by an older version, and the steps that "
            "fitted in are not stored; reproduce a directory that was tuned without --minutes, or "
            "not at all"
        )
    if source.report.get("calibration", {}).get("source") == GIVEN:
        raise SpecError(
            f"{source.path} was calibrated on token windows that a program gave, and they are "
            "not stored; call lrc.compress with the same windows"
        )


def _tune_again(
    source: PackedCheckpoint, again: Path, original: Path, threads: int | None, progress: Progress
) -> None:
    """Every tuning once more, as far as what it has stored; an interrupt undoes all."""
    try:
        for one in source.report.get("tuned", ()):
            tune(
                again, original, TuneSpec.from_dict(one["spec"]),
                threads=threads, progress=progress, stop=partial(operator.le, int(one["steps"])),
            )  # fmt: skip
    except BaseException:
        shutil.rmtree(again, ignore_errors=True)
        raise


def _rounded_otherwise(theirs: Any, ours: dict[str, Any]) -> str | None:
    """What to say where sums were rounded otherwise."""
    if not isinstance(theirs, dict) or theirs == ours:
        return None
    what = ", ".join(f"{key} {theirs.get(key)}, here {of}" for key, of in ours.items())
    return (
        f"it was written on a processor of another type ({what}), where sums may be rounded "
        "otherwise; lrc compress --portable gives the same bytes on both"
    )


def _files(source: PackedCheckpoint) -> list[str]:
    side_files = (path.relative_to(source.path).as_posix() for path in source.other_files())
    return [*source.report["files"], *sorted(side_files)]


def _differences(source: PackedCheckpoint, made: PackedCheckpoint) -> Iterator[str]:
    """Files and fields of the manifest that are not the same."""
    ours, theirs = _files(source), set(_files(made))
    for name in ours:
        if name not in theirs:
            yield f"{name} is not made again"
        elif file_digest(contained(source.path, name)) != file_digest(made.path / name):
            yield f"{name} is another"
    yield from (f"{name} is new" for name in sorted(theirs - set(ours)))
    fields = sorted((source.report.keys() | made.report.keys()) - set(_NOT_COMPARED))
    for field in fields:
        old, new = (_without_run(of.report.get(field), field) for of in (source, made))
        if old != new:
            yield f"{field} of the report is another{_which(old, new)}"


def _without_run(value: Any, field: str) -> Any:
    """A field of the manifest; the name of a tuning's run is its own."""
    if field != "tuned" or not isinstance(value, list):
        return value
    return [{name: of for name, of in one.items() if name != "run"} for one in value]


def _which(old: Any, new: Any) -> str:
    """Where two objects differ, by the names of their entries."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return ""
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f": {', '.join(names[:_LISTED])}{rest}"
