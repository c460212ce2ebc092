"""Fields of records in ``lrc.json``: what each must be, and the refusal of what it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lrc.errors import FormatError

MANIFEST = "lrc.json"
#: Evaluations of the model (`lrc.measure.quality`).
QUALITY = "lrc-quality.json"
#: How it was made: what was planned, and what came (`lrc.pipeline.forecast.fact`).
RUN = "lrc-run.json"
#: What a compressed matrix is in its model: of a linear layer in a block, or a row a token.
MATRIX, EMBEDDING, HEAD = "matrix", "embedding", "head"

#: Field to a test of its value and the words for what passes it.
Fields = Mapping[str, tuple[Callable[[Any], bool], str]]


def check_fields(what: str, record: Any, fields: Fields) -> None:
    """Refuse a record that lacks one of ``fields`` or holds a value of the wrong type.

    Raises
    ------
    FormatError
        Naming ``what`` the record is of, and the field.
    """
    if not isinstance(record, Mapping):
        raise FormatError(f"{MANIFEST}: the record of {what} is not an object")
    for field, (fits, expected) in fields.items():
        if field not in record:
            raise FormatError(f"{MANIFEST}: the record of {what} lacks {field}")
        if not fits(record[field]):
            raise FormatError(
                f"{MANIFEST}: the record of {what} has {field} {record[field]!r}, not {expected}"
            )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(COUNT[0](v) for v in value)


NATURAL = (lambda v: type(v) is int and v >= 0, "an integer >= 0")
COUNT = (lambda v: type(v) is int and v >= 1, "an integer >= 1")
NUMBER = (_is_number, "a number >= 0")
TEXT = (lambda v: isinstance(v, str), "a string")
FLAG = (lambda v: isinstance(v, bool), "true or false")
SHAPE = (_is_shape, "two positive integers")
LIST = (lambda v: isinstance(v, list), "a list")
