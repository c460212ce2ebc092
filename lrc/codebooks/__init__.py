"""Every codebook by name: what exists at which widths, without loading any of it.

A row names the file in this package that decodes and, under the same name in :mod:`lrc.quant`,
the one that encodes. Rows are in the order in which they are shown.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from lrc.errors import FormatError

if TYPE_CHECKING:
    from lrc.codebooks.base import Codebook


class Row(NamedTuple):
    """One codebook.

    Attributes
    ----------
    module
        File here and in :mod:`lrc.quant`.
    bits
        Widths that it has.
    family
        Codebooks of one family stand for each other at other widths.
    grouped
        Whether weights may share scales in groups of a row; else a matrix has one.
    gaussian_error
        Squared error on a Gaussian source of unit variance by width, where a budget may choose
        the codebook.
    instead
        What is tried before the plain codebook where this one does not fit a matrix.
    """

    module: str
    bits: tuple[int, ...]
    family: str
    grouped: bool = False
    gaussian_error: dict[int, float] = {}  # noqa: RUF012
    instead: str = ""


_SHUFFLE_ERROR = {2: 0.0707, 3: 0.0187, 4: 0.0049}
_TRELLIS_ERROR = {2: 0.0722, 3: 0.0188, 4: 0.0050}

CODEBOOKS: dict[str, Row] = {
    "e8p": Row("e8p", (2,), "e8p", gaussian_error={2: 0.0914}),
    "e8p-rvq3": Row("e8p", (3,), "e8p", gaussian_error={3: 0.0296}),
    "e8p-rvq4": Row("e8p", (4,), "e8p", gaussian_error={4: 0.0083}),
    **{
        f"trellis{states}": Row("trellis", (2, 3, 4), "trellis", gaussian_error=_TRELLIS_ERROR)
        for states in range(8, 17)
    },
    "shuffle10": Row("shuffle", (2,), "shuffle", gaussian_error={2: 0.0719}, instead="trellis10"),
    "shuffle12": Row(
        "shuffle", (2, 3, 4), "shuffle", gaussian_error=_SHUFFLE_ERROR, instead="trellis12"
    ),
    "uniform": Row("scalar", tuple(range(2, 9)), "uniform", grouped=True),
    "lloyd-max": Row("scalar", tuple(range(2, 9)), "lloyd-max", grouped=True),
    # Of each width the first is what a width alone stands for.
    "q2_k": Row("ggml", (2,), "ggml", instead="iq4_nl"),
    "q3_k": Row("ggml", (3,), "ggml", instead="iq4_nl"),
    "q4_k": Row("ggml", (4,), "ggml", instead="iq4_nl"),
    "q5_k": Row("ggml", (5,), "ggml", instead="q5_0"),
    "q6_k": Row("ggml", (6,), "ggml", instead="q8_0"),
    "q8_0": Row("ggml", (8,), "ggml"),
    "q4_0": Row("ggml", (4,), "ggml"),
    "q4_1": Row("ggml", (4,), "ggml"),
    "q5_0": Row("ggml", (5,), "ggml"),
    "q5_1": Row("ggml", (5,), "ggml"),
    "iq4_nl": Row("ggml", (4,), "ggml"),
    "iq4_xs": Row("ggml", (4,), "ggml", instead="iq4_nl"),
    "iq3_xxs": Row("ggml", (3,), "ggml", instead="iq4_nl"),
    "iq2_xs": Row("ggml", (2,), "ggml", instead="iq4_nl"),
    "iq2_xxs": Row("ggml", (2,), "ggml", instead="iq4_nl"),
    # Of each width the first is what a width alone stands for.
    "gint128": Row("grouped", (2, 3, 4, 8), "grouped", instead="gint64"),
    "gint64": Row("grouped", (2, 3, 4, 8), "grouped", instead="gint32"),
    "gint32": Row("grouped", (2, 3, 4, 8), "grouped"),
    "bfp": Row("bfp", tuple(range(2, 9)), "bfp", gaussian_error={2: 0.1426, 3: 0.0375, 4: 0.0102}),
}

#: What Q is coded with unless something else is asked for, where it fits.
DEFAULT = "shuffle12"
#: The family that fits any shape and is quick to encode: for surveys, and where another misfits.
PLAIN = "e8p"
#: Codebook of widths that neither has, and of the factors L and R.
WIDE = "lloyd-max"
#: What models for GGUF files are coded with unless something else is asked for, and their tables.
GGUF, GGUF_TABLES = "q4_k", "q8_0"
#: What models for packed integer weights of other libraries are coded with.
GROUPED = "gint128"
#: Codebook of embeddings and heads, whose rows decode alone.
TABLES = "uniform"


@cache
def get_codebook(name: str, bits: int) -> Codebook:
    """The decoding half of the codebook ``name`` at ``bits``.

    Raises
    ------
    FormatError
        If there is none.
    """
    row = CODEBOOKS.get(name)
    if row is None or bits not in row.bits:
        raise FormatError(f"no codebook {name!r} of {bits} bits; known: {describe()}")
    made: Codebook = importlib.import_module(f"{__name__}.{row.module}").codebook(name, bits)
    return made


def at_width(name: str, bits: int) -> str:
    """The codebook of ``bits`` that stands for ``name`` there; the widest where it has none."""
    if name in CODEBOOKS and bits in CODEBOOKS[name].bits:
        return name
    family = CODEBOOKS[name].family if name in CODEBOOKS else PLAIN
    for other, row in CODEBOOKS.items():
        if row.family == family and bits in row.bits:
            return other
    return WIDE


def plain(bits: int) -> str:
    """The codebook of ``bits`` that fits any shape."""
    return at_width(PLAIN, bits)


def fitting(name: str, bits: int, shape: tuple[int, int]) -> tuple[str, int, str | None]:
    """Name and bits, or those of what stands for it where it does not fit this shape, and why."""
    book = get_codebook(name, bits)
    why = book.misfit(shape[0]) or book.waste(*shape)
    if why is None:
        return name, bits, None
    instead = CODEBOOKS[name].instead
    if not instead:
        return plain(bits), bits, why
    known = CODEBOOKS[instead].bits
    return (*fitting(instead, bits if bits in known else known[0], shape)[:2], why)


def describe() -> str:
    """Every codebook with its widths, in words.

    Examples
    --------
    >>> describe().split(", ")[0]
    'e8p (2)'
    """
    shown: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, row in CODEBOOKS.items():
        key = (row.module, row.bits)
        shown.setdefault(key, []).append(name)
    return ", ".join(f"{_names(names)} ({widths(bits)})" for (_, bits), names in shown.items())


def _names(names: list[str]) -> str:
    return f"{names[0]} to {names[-1]}" if len(names) > 2 else " and ".join(names)


def widths(bits: tuple[int, ...]) -> str:
    """Widths in words: "2", "2 to 8", or "2, 3, 4, 8" where some lack."""
    if len(bits) == 1:
        return str(bits[0])
    whole = bits == tuple(range(bits[0], bits[-1] + 1))
    return f"{bits[0]} to {bits[-1]}" if whole else ", ".join(map(str, bits))
