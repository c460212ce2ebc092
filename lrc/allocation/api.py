"""The whole way from a model and a budget to parameters for every matrix."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from lrc.allocation.budget import Budgeted, Picks, check_budget
from lrc.allocation.endtoend import divergences
from lrc.allocation.evolve import evolve
from lrc.allocation.options import check_allocatable
from lrc.allocation.survey import SurveyJob, Tables, survey, survey_tables
from lrc.allocation.survey_store import SurveyStore
from lrc.base.atomic import atomic_write_json
from lrc.base.own_files import read_own_json, reading
from lrc.base.progress import SILENT, Progress
from lrc.base.threads import resolve_threads, single_threaded_blas
from lrc.calibrate.examples import Examples, TextExamples
from lrc.calibrate.mixture import calibration_windows
from lrc.calibrate.table_options import TableOptions
from lrc.calibrate.windows import given_windows
from lrc.errors import FormatError, SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.base import Model
from lrc.models.opened import open_original
from lrc.models.speech import hears
from lrc.run.text import Tokenizer
from lrc.solvers.api import derive_seed
from lrc.spec import AllocationSpec, CompressSpec

#: Shares of the KL of the survey's candidates put together, which know nothing of each other, that
#: were left once each matrix had been fitted to the compressed prefix with its own solver: least
#: and most over forty windows of test text (0.43 to 0.53) and its first twenty (0.50 to 0.58).
SURVEY_KL_LEFT = (0.43, 0.58)
SURVEY_KL_ORIGIN = "measured on one model of 135M weights, at 2.25 to 4.05 bits"
_NOT_MEASURED = "the survey's own: what the original's streams alone leave was never measured"

_SURVEY, _RESULT = "unfinished-survey", "unfinished-allocation.json"


@dataclass(frozen=True)
class Allocation:
    """``spec`` with every matrix chosen, and a ``summary`` of plain values for the report."""

    spec: CompressSpec
    summary: dict[str, Any]


def allocate(
    source: str | Path,
    spec: CompressSpec | None = None,
    *,
    target_bpw: float | None = None,
    target_bytes: int | None = None,
    generations: int = 0,
    threads: int | None = None,
    progress: Progress = SILENT,
    windows: ArrayLike | None = None,
    survey_folder: str | Path | None = None,
) -> CompressSpec:
    """Choose codebook, bits, rank and factor bits of every matrix for a budget.

    Parameters
    ----------
    source : path
        A dense Hugging Face directory with safetensors weights.
    spec : CompressSpec, optional
        What is not chosen; its codebook names the family, its ``matrices`` stay as they are.
    target_bpw : float, optional
        Most stored bits of the linear layers over their weights.
    target_bytes : int, optional
        Most bytes of the weight files, with embedding and head chosen too. Give one of the two.
    generations : int
        Of the search end to end after the first answer.
    threads : int, optional
        All processors by default; never changes the result.
    progress : Progress, optional
    windows : integers (N, T), optional
        Calibration tokens to use instead of the spec's files or self-written text.
    survey_folder : path, optional
        Keeps what does not depend on the budget, for the next one: most of the time goes there.

    Returns
    -------
    CompressSpec
        For :func:`lrc.compress`.

    Raises
    ------
    SpecError
        If the budget is below the least possible size, which the message names, or the survey
        that is kept is one of something else.
    LrcError
        For other bad input.

    Notes
    -----
    Writes about 1.2 bytes a weight to ``survey_folder``, or a temporary one. ``lrc.compress``
    with an ``allocation`` does the same, and can be interrupted.
    """
    spec = spec or CompressSpec()
    allocation = AllocationSpec(
        bits_per_weight=target_bpw or 0.0, file_bytes=target_bytes or 0, generations=generations
    )
    model, checkpoint = open_original(source)
    check_request(model, spec, allocation, survey_folder)
    if hears(model):
        raise SpecError("a speech model is surveyed on audio: use compress with a budget")
    if windows is not None:
        windows = given_windows(windows, model)
    count = resolve_threads(threads)
    checkpoint.check_finite(count)
    with single_threaded_blas(), tempfile.TemporaryDirectory(prefix="lrc-allocate-") as folder:
        if windows is None:
            text = calibration_windows(
                spec.calibration,
                Tokenizer.open(checkpoint.path),
                model,
                seed=spec.decompose.seed,
                threads=count,
                progress=progress,
            )
            for warning in text.warnings:
                progress.note(warning)
            windows = text.windows
            model.release()
        return allocate_in(
            Path(folder), model, spec, allocation, TextExamples(windows),
            threads=count, progress=progress, survey_folder=survey_folder,
        ).spec  # fmt: skip


def check_request(
    model: Model,
    spec: CompressSpec,
    allocation: AllocationSpec,
    survey_folder: str | Path | None,
) -> None:
    """Check all that can be checked before there are calibration tokens.

    Raises
    ------
    SpecError
        The budget cannot be met, bits are fixed already, or the survey is of something else.
    """
    check_allocatable(spec.decompose)
    check_budget(model.tensors, spec, allocation)
    if survey_folder is not None:
        SurveyStore(Path(survey_folder)).check(_original(model), spec, allocation)


def allocate_in(
    folder: Path,
    model: Model,
    spec: CompressSpec,
    allocation: AllocationSpec,
    examples: Examples,
    *,
    threads: int,
    progress: Progress,
    survey_folder: str | Path | None = None,
) -> Allocation:
    """Do the work of :func:`allocate` in ``folder``, where an interrupted call goes on.

    ``model`` reads from a dense checkpoint, and :func:`check_request` has passed.
    :func:`forget` removes what is left in ``folder``.
    """
    result = folder / _RESULT
    if result.is_file():
        with reading(result):
            kept = read_own_json(result)
            return Allocation(CompressSpec.from_dict(kept["spec"]), dict(kept["summary"]))
    source = _original(model)
    survey_store = SurveyStore(Path(survey_folder or folder / _SURVEY))
    surveyed, heldout = examples.split(allocation)
    how = TableOptions.plain(model, spec, threads)
    if allocation.file_bytes:
        how = TableOptions.of(model, surveyed, spec, threads, progress)
    job = SurveyJob(
        source=source,
        model=model,
        spec=spec,
        allocation=allocation,
        surveyed=surveyed,
        heldout=heldout,
        threads=threads,
        store=survey_store.candidates,
        tables=Tables(source, how),
        progress=progress,
    )
    blocks = model.tensors.blocks
    with survey_store.claimed(source, spec, allocation, examples.identity(), blocks=blocks):
        options = survey(job)
        tables = survey_tables(job) if allocation.file_bytes else {}
        measured = survey_store.measured(job, options, tables)
    problem = Budgeted(model.tensors, spec, allocation, options, tables, measured)
    found = _chosen(job, problem)
    atomic_write_json(result, {"spec": found.spec.to_dict(), "summary": found.summary})
    return found


def _original(model: Model) -> Checkpoint:
    if not isinstance(model.source, Checkpoint):
        raise FormatError("an allocation needs the original model")
    return model.source


def surveyed_files(folder: Path) -> int:
    """How many files in ``folder`` an allocation that goes on there would not make again."""
    return SurveyStore(folder / _SURVEY).candidates.count() + (folder / _RESULT).is_file()


def forget(folder: Path) -> None:
    """Remove what an allocation keeps in ``folder``."""
    (folder / _RESULT).unlink(missing_ok=True)
    SurveyStore(folder / _SURVEY).remove()


def _chosen(job: SurveyJob, problem: Budgeted) -> Allocation:
    """Solve, search, measure the answer and say what was done."""
    picks = problem.solve()
    allocation = job.allocation
    tried: tuple[float, ...] = ()

    quiet = dataclasses.replace(job, progress=SILENT)

    def judge(several: list[Picks]) -> list[float]:
        return divergences(quiet, [problem.to_trial(p) for p in several], "end to end")

    if allocation.generations:
        with job.progress.bar("search", allocation.generations, "generation") as advance:
            evolved = evolve(
                problem.items(),
                picks,
                problem.fits,
                judge,
                generations=allocation.generations,
                offspring=allocation.offspring,
                seed=derive_seed(job.spec.decompose.seed, "allocation"),
                advance=advance,
            )
        picks, tried = evolved.picks, evolved.fitness
    together = tried[-1] if tried else judge([picks])[0]
    items = problem.items()
    spec = problem.to_spec(picks)
    embed_bits, head_bits = spec.table_bits()
    return Allocation(spec, {
        "target": dataclasses.asdict(allocation),
        "size": problem.size(picks),
        **predicted(together, spec),
        "surveyed_kl": together,
        "additive_kl": sum(items[name][pick].loss for name, pick in sorted(picks.items())),
        "measured_by": problem.measured.group,
        "search": list(tried),
        "counts": dict(sorted(Counter(str(problem.options[n][picks[n]]) for n in problem.options)
                              .items())),
        "embed_bits": embed_bits,
        "head_bits": head_bits,
    })  # fmt: skip


def predicted(surveyed_kl: float, spec: CompressSpec) -> dict[str, Any]:
    """``predicted_kl``, the range [low, high] expected of the compressed model, and its origin."""
    mixed = spec.calibration.streams == "mixed"
    low, high = SURVEY_KL_LEFT if mixed else (1.0, 1.0)
    return {
        "predicted_kl": [surveyed_kl * low, surveyed_kl * high],
        "predicted_kl_origin": f"{low:g} to {high:g} of the survey's, {SURVEY_KL_ORIGIN}"
        if mixed
        else _NOT_MEASURED,
    }
