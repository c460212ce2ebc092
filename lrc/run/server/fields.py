"""Values of a JSON object, taken out one by one: what is left over in the end is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrc.errors import SpecError

_MISSING: Any = object()
_WORDS: dict[type, str] = {
    bool: "true or false", int: "an integer", float: "a number", str: "a text", list: "a list",
    dict: "an object",
}  # fmt: skip


class Fields:
    """Takes values by name and type; null counts as absent.

    Parameters
    ----------
    values : mapping
    where : str
        Named in errors.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._left, self._where = dict(values), where

    def take(self, name: str, kinds: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        """A value of one of these types, or the default.

        Raises
        ------
        SpecError
            It has another type, or is absent and there is no default.
        """
        value = self._left.pop(name, None)
        expected = kinds if isinstance(kinds, tuple) else (kinds,)
        if value is None:
            if default is _MISSING:
                raise SpecError(f"{self._where} has no {name}; expected {_WORDS[expected[0]]}")
            return default
        if type(value) not in expected:
            words = [_WORDS[kind] for kind in expected if kind is not int or float not in expected]
            raise SpecError(f"{name} is {_shown(value)}; expected {' or '.join(words)}")
        return value

    def whole(
        self, name: str, default: int | None, least: int, most: int | None = None
    ) -> int | None:
        """An integer within bounds, or the default.

        Raises
        ------
        SpecError
            It is no integer, or beyond the bounds.
        """
        value: int | None = self.take(name, int, default)
        if value is not None and (value < least or (most is not None and value > most)):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise SpecError(f"{name}={value} must be {bounds}")
        return value

    def same(self, name: str, *allowed: Any) -> None:
        """Take a value that must be one of these.

        Raises
        ------
        SpecError
            It is another.
        """
        value = self._left.pop(name, None)
        if value not in allowed:
            raise SpecError(f"{name} is {_shown(value)}, which is not known here; leave it out")

    def finish(self) -> None:
        """Refuse what was not taken.

        Raises
        ------
        SpecError
            With the names.
        """
        if self._left:
            names = ", ".join(sorted(map(str, self._left)))[:200]
            raise SpecError(f"{self._where} has keys that are not known here: {names}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
