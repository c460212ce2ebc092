"""Parameters of single matrices by patterns of their names: ``down:bits=4,rank=16``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrc import codebooks
from lrc.errors import SpecError
from lrc.spec import CompressSpec, MatrixSpec, QuantSpec

_FORM = "REGEX:KEY=VALUE,..., such as 'down:bits=4,rank=16'"


def _whole_or_auto(text: str) -> int | str:
    return text if text == "auto" else int(text)


#: What can be set, and how its value is read.
_QUANT = {"bits": int, "codebook": str, "group_size": int}
_LOW_RANK = {"rank": _whole_or_auto, "factor_bits": int, "keep": float}
_KEYS: Mapping[str, Any] = _QUANT | _LOW_RANK


@dataclass(frozen=True)
class Setting:
    """What matrices whose name has ``pattern`` somewhere in it get; ``text`` is what was given."""

    text: str
    pattern: re.Pattern[str]
    values: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Read ``REGEX:KEY=VALUE,...``; the last colon ends the pattern.

        Raises
        ------
        SpecError
            It has another form, the pattern is no regular expression, or a key is unknown or has
            a value that it cannot have.

        Examples
        --------
        >>> dict(Setting.parse("mlp:bits=4,rank=auto").values)
        {'bits': 4, 'rank': 'auto'}
        """
        pattern, colon, assigned = text.rpartition(":")
        if not colon or not pattern or not assigned:
            raise SpecError(f"{text!r} is no setting; write it as {_FORM}")
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise SpecError(f"{pattern!r} is no regular expression: {error}") from None
        pairs = [part.partition("=")[::2] for part in assigned.split(",")]
        return cls(text, compiled, dict(_read(text, key.strip(), value) for key, value in pairs))

    def changed(self, own: MatrixSpec) -> MatrixSpec:
        """The parameters of a matrix with what is set here.

        Raises
        ------
        SpecError
            A value is not allowed.
        """
        quant = {key: self.values.get(key) for key in _QUANT}
        low_rank = {key: value for key, value in self.values.items() if key in _LOW_RANK}
        if "rank" in low_rank:
            low_rank.setdefault("keep", 0.0)
        try:
            return MatrixSpec(
                changed_quant(own.quant, **quant),
                dataclasses.replace(own.low_rank, **low_rank),
                reason=f"set: {self.text}",
                polish_sweeps=own.polish_sweeps,
            )
        except SpecError as error:
            raise SpecError(f"{self.text!r}: {error}") from None


def with_settings(
    spec: CompressSpec, names: Iterable[str], settings: Sequence[Setting]
) -> CompressSpec:
    """``spec`` with parameters of its own for every matrix that a setting is of.

    Parameters
    ----------
    spec : CompressSpec
    names : iterable of str
        Of the model's matrices, without ``.weight``.
    settings : sequence of Setting
        A later one changes what an earlier one has set.

    Raises
    ------
    SpecError
        A setting is of no matrix, or a value is not allowed.
    """
    known = list(names)
    common = MatrixSpec(spec.decompose.quant, spec.decompose.low_rank)
    matrices = dict(spec.matrices)
    for setting in settings:
        found = [name for name in known if setting.pattern.search(name)]
        if not found:
            raise SpecError(
                f"{setting.text!r} is of no matrix; names look like {known[0]}, and end in "
                + ", ".join(dict.fromkeys(name.rsplit(".", 1)[-1] for name in known))
            )
        for name in found:
            matrices[name] = setting.changed(matrices.get(name, common))
    return dataclasses.replace(spec, matrices=matrices)


def changed_quant(
    base: QuantSpec, codebook: str | None, bits: int | None, group_size: int | None
) -> QuantSpec:
    """``base`` with what is given; a width alone stays in its family, as far as that has it."""
    if codebook is None:
        codebook = codebooks.at_width(base.codebook, bits or base.bits)
    row = codebooks.CODEBOOKS.get(codebook)
    if row is None:
        return QuantSpec(codebook)  # which says what there is
    if bits is None:
        bits = base.bits if base.bits in row.bits else row.bits[0]
    if group_size is None:
        group_size = base.group_size if row.grouped else 0
    return QuantSpec(codebook=codebook, bits=bits, group_size=group_size)


def _read(text: str, key: str, value: str) -> tuple[str, Any]:
    name = key.replace("-", "_")
    if name not in _KEYS:
        raise SpecError(f"{text!r}: {key!r} cannot be set; use {', '.join(_KEYS)}, as {_FORM}")
    try:
        return name, _KEYS[name](value.strip())
    except ValueError:
        raise SpecError(f"{text!r}: {key} cannot be {value!r}; write it as {_FORM}") from None
