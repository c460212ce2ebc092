"""Frozen dataclasses that go through JSON and come back checked."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

from lrc.errors import SpecError


def require(condition: bool, message: str) -> None:
    """Raise SpecError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise SpecError(message)


class Record:
    """JSON round trip of a dataclass.

    ``nested`` gives the class of the fields that hold a record, ``mapped`` that of the values of
    fields that hold a dictionary of them.
    """

    nested: ClassVar[dict[str, type[Record]]] = {}
    mapped: ClassVar[dict[str, type[Record]]] = {}

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
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - set(fields))
        require(
            not unknown,
            f"{cls.__name__} has no parameter {', '.join(unknown)}; known: {', '.join(fields)}",
        )
        built = {name: cls._built(name, value) for name, value in values.items()}
        for name, value in built.items():
            _check_type(cls.__name__, fields[name], value)
        return cls(**built)

    @classmethod
    def _built(cls, name: str, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        if isinstance(value, dict) and name in cls.nested:
            return cls.nested[name].from_dict(value)
        if isinstance(value, dict) and name in cls.mapped:
            return {key: cls.mapped[name].from_dict(record) for key, record in value.items()}
        return value


def _check_type(owner: str, field_: dataclasses.Field[Any], value: Any) -> None:
    """Refuse a value that JSON gave the wrong type; for ``"auto"`` a number may stand."""
    made = field_.default_factory
    default = made() if made is not dataclasses.MISSING else field_.default
    if isinstance(default, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif isinstance(default, tuple):
        fits = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
    else:
        fits = type(value) is type(default) or (default == "auto" and type(value) in (int, float))
    kind = "list of strings" if isinstance(default, tuple) else type(default).__name__
    require(fits, f"{owner} parameter {field_.name}={value!r} has the wrong type; give a {kind}")
