"""Reading a ``config.json``: values of one key, and the rule that no key is left out in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import inf
from typing import Any

from lrc.errors import FormatError, UnsupportedModelError

#: Blocks of a stack, and experts of a block: several times those of the largest models there are.
MOST_LAYERS = MOST_EXPERTS = 1000
#: Unknown keys named in one message.
_NAMED = 4


@dataclass(frozen=True)
class ConfigKeys:
    """All that a model family knows of the keys of its ``config.json``.

    Attributes
    ----------
    family : str
        Named in errors.
    used : frozenset of str
        Keys whose values are read.
    off : mapping of str to tuple
        Keys of things that are not computed here, and the values that switch them off.
    harmless : mapping of str to str
        Keys that change nothing that is computed here, whatever they say, and why. A name may
        end in ``*``.
    spelled : mapping of str to str or None
        Usual names of keys to those that the family has for them; None where it has no such key.
    own_code : frozenset of str
        Modules that files of this family name in ``auto_map`` for what transformers has computed
        since: it prefers its own class, unless told otherwise.
    file : str
        The file that has them, named in errors.
    """

    family: str
    used: frozenset[str]
    off: Mapping[str, tuple[object, ...]]
    harmless: Mapping[str, str]
    spelled: Mapping[str, str | None] = field(default_factory=dict)
    own_code: frozenset[str] = frozenset()
    file: str = "config.json"

    def check(self, config: Mapping[str, Any]) -> None:
        """Refuse a configuration that says anything which would be left out.

        An unknown key is fine where it is null, which sets nothing.

        Raises
        ------
        UnsupportedModelError
            A known key has a value that is not supported, or a key is not known; named.
        """
        for key, allowed in self.off.items():
            if key in config and config[key] not in allowed:
                raise UnsupportedModelError(
                    f"{self.file}: {key}={short(config[key])} is not supported; only "
                    f"{allowed[-1]!r} is"
                )
        _refuse_own_code(config, self.file, self.own_code)
        unknown = [k for k in config if config[k] is not None and not self._knows(k)]
        if unknown:
            named = ", ".join(f"{key}={short(config[key])}" for key in unknown[:_NAMED])
            more = f" and {len(unknown) - _NAMED} more keys" if len(unknown) > _NAMED else ""
            raise UnsupportedModelError(
                f"{self.file}: {named}{more} not known for a {self.family} model, and may change "
                f"what it computes; where that is not so, remove it from {self.file}"
            )

    def name(self, usual: str) -> str:
        """What the family calls a key; one that no file has, where it has no such key."""
        return self.spelled.get(usual, usual) or ""

    def _knows(self, key: str) -> bool:
        if key in self.used or key in self.off or key in self.harmless:
            return True
        return any(fnmatchcase(key, known) for known in self.harmless if known.endswith("*"))


def _refuse_own_code(config: Mapping[str, Any], file: str, known: frozenset[str]) -> None:
    """Refuse a model that is run by code of its own; that of a tokenizer, or known, is fine."""
    own = config.get("auto_map") or {}
    names = own if isinstance(own, Mapping) else {"auto_map": own}
    code = sorted(
        str(name)
        for name, of in names.items()
        if name != "AutoTokenizer" and _module(of) not in known
    )
    if code:
        raise UnsupportedModelError(
            f"{file}: auto_map names code of the model's own for {', '.join(code)}, which may "
            "compute something else and is not run; where it does not, remove auto_map"
        )


def _module(place: object) -> str:
    """The module of ``REPOSITORY--MODULE.CLASS``, where the repository may be left out."""
    return str(place).rpartition("--")[2].partition(".")[0]


def short(value: object, width: int = 60) -> str:
    """``repr`` of a value, cut for a message of one line."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def number(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """Take a positive finite number, or ``default`` where the key is absent or null.

    Raises
    ------
    FormatError
        When it is something else.
    """
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < inf:
        raise FormatError(f"config.json: {key}={short(value)} must be a finite number above 0")
    return float(value)


def count(
    config: Mapping[str, Any],
    key: str,
    default: int | None = None,
    least: int = 1,
    *,
    file: str = "config.json",
    most: int = 2**53,
) -> int:
    """Take an integer of at least ``least``, or ``default`` where the key is absent or null.

    ``file`` is named in errors. More than ``most`` are no model's: `MOST_LAYERS`, `MOST_EXPERTS`.

    Raises
    ------
    FormatError
        When it is something else.
    """
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise FormatError(f"{file}: {key}={short(value)} must be an integer of at least {least}")
    if value > most:
        raise FormatError(f"{file}: {key}={short(value)} must be an integer of at most {most}")
    return value


def flag(config: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """Take true or false; ``default`` where the key is absent, false where it is null.

    Raises
    ------
    FormatError
        When it is something else.
    """
    value = config.get(key, default)
    if not isinstance(value, bool | None):
        raise FormatError(f"config.json: {key}={value!r} must be true or false")
    return bool(value)


def first_id(value: object) -> int | None:
    """Take a token id from an id, a list of ids or null."""
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
