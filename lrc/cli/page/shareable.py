"""A compressed model's record without the folders that its texts lie in: nobody else's business."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_FIELDS = ("file", "files", "imatrix", "lists")


def base_name(path: str) -> str:
    r"""The last part of a path of any system.

    Examples
    --------
    >>> base_name("/home/me/a.txt"), base_name(r"C:\texts\a.txt")
    ('a.txt', 'a.txt')
    """
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def shareable(report: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with base names wherever a path of a text stands, warnings included."""
    text = json.dumps(report)
    for path in sorted(set(_paths(report)), key=len, reverse=True):
        if name := base_name(path):
            text = text.replace(json.dumps(path)[1:-1], json.dumps(name)[1:-1])
    found: dict[str, Any] = json.loads(text)
    return found


def _paths(value: Any, field: str = "") -> Iterator[str]:
    """Every text under one of the fields that name files."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _paths(item, name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item, field)
    elif isinstance(value, str) and field in _FIELDS:
        yield value
