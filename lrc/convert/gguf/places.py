"""Where each tensor of a checkpoint lies in a GGUF file, by the names of the package ``gguf``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lrc.convert.gguf.architectures import Architecture
from lrc.convert.gguf.metadata import Shapes
from lrc.errors import FormatError, UnsupportedModelError

#: GGUF name of a Hugging Face name, or None.
Lookup = Callable[[str], str | None]

_NUMBERED = re.compile(r"(.+\.(?:experts|norms))\.(\d+)(\..+)")
_SEPARATE = re.compile(r"(blk\.\d+\.)attn_([qkv])(\.\w+)")


@dataclass(frozen=True)
class Place:
    """A tensor of a GGUF file, or a part of one along its first axis."""

    name: str
    part: int | slice | None = None

    def shape(self, shapes: Shapes) -> tuple[int, ...]:
        """Shape of it, where ``shapes`` has those of whole tensors."""
        whole = shapes[self.name]
        if isinstance(self.part, slice):
            return (len(range(*self.part.indices(whole[0]))), *whole[1:])
        return whole if self.part is None else whole[1:]


def find_places(
    expected: Shapes, found: Shapes, row: Architecture, lookup: Lookup
) -> dict[str, Place | None]:
    """Find every tensor of a checkpoint, and refuse what is left over.

    Parameters
    ----------
    expected
        Shapes of the checkpoint's tensors, by Hugging Face name.
    found
        Shapes of the file's tensors, by GGUF name.
    row
        The architecture.
    lookup
        What the package ``gguf`` says of a name.

    Returns
    -------
    dict
        None for tensors that are zero, which the file lacks.

    Raises
    ------
    FormatError
        A tensor is missing or has another shape.
    UnsupportedModelError
        The file has a tensor that the checkpoint has not.
    """
    named = {name: _place(name, row, lookup) for name in expected}
    named |= _in_fused(named, expected, found)
    places = {name: place for name, place in named.items() if place.name in found}
    zeros = {name for name in expected if name.endswith(row.zeros)} if row.zeros else set()
    missing = [name for name in expected if name not in places]
    if zeros.isdisjoint(places):
        missing = [name for name in missing if name not in zeros]
    if missing:
        raise FormatError(f"the GGUF file lacks {missing[0]} ({len(missing)} tensors missing)")
    extra = sorted(found.keys() - {place.name for place in places.values()})
    if extra:
        raise UnsupportedModelError(
            f"the GGUF file has the tensor {extra[0]}, which the model of its settings has not"
        )
    for name, place in places.items():
        _check_shape(name, place.shape(found), expected[name], name.endswith(row.transposed))
    _check_parts(places.values(), found)
    return {name: places.get(name) for name in expected}


def _place(name: str, row: Architecture, lookup: Lookup) -> Place:
    """Where a tensor should lie; experts and norms of single heads lie in one tensor together."""
    whole, part = name, None
    match = _NUMBERED.fullmatch(name)
    if match:
        whole, part = match[1].removesuffix(".norms") + match[3], int(match[2])
    for old, new in row.renamed.items():
        whole = whole.replace(old, new)
    gguf_name = lookup(whole)
    if gguf_name is None:
        raise UnsupportedModelError(f"the package gguf has no name for the tensor {name}")
    return Place(gguf_name, part)


def _in_fused(named: Mapping[str, Place], expected: Shapes, found: Shapes) -> dict[str, Place]:
    """Rows of one tensor for queries, keys and values that the file has not one by one."""
    parts: dict[str, dict[str, str]] = {}
    for name, place in named.items():
        match = _SEPARATE.fullmatch(place.name)
        if match and place.name not in found:
            parts.setdefault(f"{match[1]}attn_qkv{match[3]}", {})[match[2]] = name
    places = {}
    for fused, names in parts.items():
        start = 0
        for name in [names[letter] for letter in "qkv" if fused in found and len(names) == 3]:
            places[name] = Place(fused, slice(start, start + expected[name][0]))
            start += expected[name][0]
    return places


def _check_parts(places: Iterable[Place], found: Shapes) -> None:
    """No part of a tensor is left over."""
    ends: dict[str, int] = {}
    for place in places:
        if place.part is not None:
            end = place.part.stop if isinstance(place.part, slice) else place.part + 1
            ends[place.name] = max(end, ends.get(place.name, 0))
    for name, end in ends.items():
        if found[name][0] != end:
            raise FormatError(
                f"{name} of the GGUF file has {found[name][0]} parts along its first axis; "
                f"expected {end}"
            )


def _check_shape(
    name: str, found: tuple[int, ...], expected: tuple[int, ...], transposed: bool
) -> None:
    """GGUF leaves out axes of length 1, and may keep a vector in rows."""
    stored = expected[::-1] if transposed else expected
    same = [n for n in found if n != 1] == [n for n in stored if n != 1]
    if same or (len(expected) == 1 and math.prod(found) == expected[0]):
        return
    raise FormatError(f"{name} has shape {found} in the GGUF file; expected {stored}")
