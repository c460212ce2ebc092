"""An importance matrix under the names of a model: which entry is of which matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrc.convert.gguf.file import gguf_package
from lrc.convert.gguf.written import GgufModel
from lrc.errors import FormatError
from lrc.formats.imatrix import read_imatrix
from lrc.models.base import Model
from lrc.models.tensors import weight_of


def gguf_names(model: Model) -> dict[str, str]:
    """GGUF name of the weight of every matrix of a model.

    Raises
    ------
    UnsupportedModelError
        There are no rules for its family.
    """
    rules = GgufModel.of(model, gguf_package())
    return {name: rules.names[weight_of(name)] for name in model.tensors.matrices}


def importance_of(model: Model, path: Path) -> dict[str, NDArray[np.float64]]:
    """Mean squares (n,) of the inputs of every matrix, from an importance matrix of llama.cpp.

    Raises
    ------
    FormatError
        It cannot be read, or is of another model: a matrix is missing, or has other inputs.
    UnsupportedModelError
        The family has no GGUF names here.
    """
    entries, found = read_imatrix(path), {}
    for name, entry in gguf_names(model).items():
        n = model.tensors.shape(weight_of(name))[1]
        if entry not in entries:
            raise FormatError(f"{path} has nothing on {entry} ({name}): it is of another model")
        means = entries[entry].mean_squares()
        if means.shape != (1, n):
            raise FormatError(
                f"{path}: {entry} has {means.shape[0]} x {means.shape[1]} values, and {name} has "
                f"{n} inputs: it is of another model"
            )
        if not means.any():
            raise FormatError(f"{path}: {entry} saw no token or zeros alone; measure it again")
        found[name] = means[0]
    return found
