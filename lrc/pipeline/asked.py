"""What is refused of a compression before any work."""

from __future__ import annotations

from pathlib import Path

from lrc.allocation.api import check_request
from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.pipeline.widths import check_widths, tries_widths
from lrc.spec import AllocationSpec, CompressSpec


def check_asked(
    model: Model,
    spec: CompressSpec,
    allocation: AllocationSpec | None,
    survey_folder: str | Path | None,
) -> AllocationSpec | None:
    """Refuse what cannot be done, before any work; return the budget where bits alone are chosen.

    Raises
    ------
    SpecError
        Parameters contradict each other or the model, or a budget is out of reach.
    """
    _check_matrices(model, spec)
    if spec.calibration.imatrix and allocation is not None:
        raise SpecError("a target is met by measuring on text; give text, or bits beside it")
    if allocation is None:
        if survey_folder is not None:
            raise SpecError(
                "a survey is made for a budget; give a target, or no folder for a survey"
            )
        return None
    if not tries_widths(spec):
        check_request(model, spec, allocation, survey_folder)
        return None
    if survey_folder is not None:
        raise SpecError("every width is tried here: there is no survey to be kept")
    check_widths(model.tensors, spec, allocation)
    return allocation


def _check_matrices(model: Model, spec: CompressSpec) -> None:
    """Refuse parameters for matrices that the model does not have, and a size that is not given.

    Raises
    ------
    SpecError
        Naming them.
    """
    matrices = model.tensors.matrices
    spec.check_size()
    for name in matrices:
        spec.for_matrix(name).check_size()
    unknown = sorted(set(spec.matrices) - set(matrices))
    if unknown:
        first, keys = next(iter(matrices)), dict.fromkeys(m.key for m in matrices.values())
        raise SpecError(
            f"the model has no matrix {', '.join(unknown)}; names look like {first}, with layers "
            f"0 to {model.tensors.blocks - 1} and {', '.join(keys)}"
        )
