"""Frozen dataclasses whose fields are checked when built, and that go through JSON."""

from __future__ import annotations

import dataclasses
import numbers
import reprlib
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from lrc.errors import SpecError


def require(condition: bool, message: str) -> None:
    """Raise SpecError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise SpecError(message)


class Record:
    """A dataclass that is what its annotations say, however it is built.

    Fields are bool, int, float, str, a ``Literal`` of strings, another record, a tuple of any of
    these, a dictionary of them by string or integer, or a union. Whole numbers stand for
    fractions, numbers of NumPy for Python's, and lists for tuples.

    Raises
    ------
    SpecError
        A value has the wrong type, or is not allowed.
    """

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, hint in _hints(kind).items():
            given = getattr(self, name)
            value = _plain(given)
            if not _fits(value, hint):
                shown = reprlib.repr(given)
                raise SpecError(f"{kind.__name__}: {name}={shown} must be {_wanted(hint)}")
            object.__setattr__(self, name, value)
        self.check()

    def check(self) -> None:
        """Refuse values of the right type that are not allowed; for subclasses."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and strings."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from :meth:`to_dict` output; unknown keys are refused by name.

        Raises
        ------
        SpecError
            A key is unknown, or a value has the wrong type or is not allowed.
        """
        require(
            isinstance(values, dict),
            f"{cls.__name__} is a {type(values).__name__}; expected an object",
        )
        kind: Any = cls
        hints = _hints(kind)
        unknown = sorted(set(values) - set(hints))
        require(
            not unknown,
            f"{cls.__name__} has no parameter {', '.join(unknown)}; known: {', '.join(hints)}",
        )
        return cls(**{name: _built(value, hints[name]) for name, value in values.items()})


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Annotation of every field of a record's class."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _built(value: Any, hint: Any) -> Any:
    """``value`` from JSON with its dictionaries made the records that ``hint`` asks for."""
    if isinstance(value, dict) and _is_record(hint):
        return hint.from_dict(value)
    if isinstance(value, dict) and get_origin(hint) is dict:
        keys, items = get_args(hint)
        return {_key(key, keys): _built(item, items) for key, item in value.items()}
    return value


def _key(key: Any, hint: Any) -> Any:
    """A key from JSON, where all are text, as the number that ``hint`` asks for."""
    return int(key) if hint is int and isinstance(key, str) and key.isdecimal() else key


def _plain(value: Any) -> Any:
    """``value`` with NumPy's numbers as Python's and lists as tuples."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items()
        )
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def _wanted(hint: Any) -> str:
    """What a field may hold, in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):  # literals first: "'auto' or an integer"
        return " or ".join(sorted(map(_wanted, inner)))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is tuple:
        return f"a list, each {_wanted(inner[0])}"
    if origin is dict:
        return f"a dictionary, each {_wanted(inner[1])}"
    words = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}
    return words.get(hint, f"a {hint.__name__}")


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Record)
