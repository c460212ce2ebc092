"""Values of options that are more than a number."""

from __future__ import annotations

import argparse
import math
import re
from fractions import Fraction
from typing import Literal

from lrc.spec.presets import EFFORTS

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def number_or_auto(text: str) -> int | Literal["auto"]:
    """Parse ``--rank`` or bits of a table: ``auto`` or a whole number."""
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'auto' nor a whole number") from None


def fraction_or_auto(text: str) -> float | Literal["auto"]:
    """Parse ``--shrinkage``: ``auto`` or a number."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'auto' nor a number") from None


def byte_count(text: str) -> int:
    """Parse ``--target-size``: a number with KB, MB, GB, KiB, MiB or GiB, or plain bytes."""
    number = text.strip().upper()
    unit = next((u for u in sorted(_UNITS, key=len, reverse=True) if number.endswith(u)), "")
    try:
        return int(Fraction(number.removesuffix(unit).strip()) * _UNITS.get(unit, 1))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; write it like 60MB, 1.5GB or 900MiB"
        ) from None


def memory_size(text: str) -> int:
    """Parse ``--ram``: a size as of `byte_count`, or with K, M or G, which count by 1024.

    Examples
    --------
    >>> memory_size("4G") == 4 << 30, memory_size("1.5GB")
    (True, 1500000000)
    """
    letter = text.strip().upper()[-1:]
    size = byte_count(f"{text.strip()}iB" if letter in ("K", "M", "G") else text)
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no memory; write it like 4G or 900M")
    return size


_SECONDS = {"h": 3600, "m": 60, "min": 60, "s": 1}


def duration(text: str) -> float:
    """Parse ``--time``: hours, minutes and seconds such as 30m or 1h30m; a number is minutes.

    Examples
    --------
    >>> duration("30m"), duration("1h30m"), duration("90s"), duration("2")
    (1800.0, 5400.0, 90.0, 120.0)
    """
    form = re.fullmatch(r"(?:(\d+(?:\.\d+)?(?:h|min|m|s)))+|\d+(?:\.\d+)?", text.strip().lower())
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|min|m|s)?", text.strip().lower()) if form else []
    seconds = sum(float(count) * _SECONDS[unit or "m"] for count, unit in parts)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write it like 30m, 2h or 1h30m")
    return float(seconds)


def effort(text: str) -> str | float:
    """Parse ``--effort``: the name of one, or minutes."""
    if text in EFFORTS:
        return text
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of minutes nor one of {', '.join(EFFORTS)}"
        )
    return minutes
