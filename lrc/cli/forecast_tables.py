"""A forecast in words, and plan beside fact. Nothing here prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrc.cli.tables import MISSING, human_size, human_time, number, table

#: A row: what, planned, came.
Row = tuple[str, str, str]


def forecast_table(found: Mapping[str, Any]) -> str:
    """What a compression will take, a line each: what, how much, and how sure that is."""
    size, memory = found["size"], found["memory"]
    bits = [number(end) for end in found["bits_per_weight"]]
    rows = [
        ("weight files", _bytes(size["weights"], size["weights_most"]), _surety(size)),
        ("copied files", f"{size['copied']:,} bytes", "exact"),
        ("manifest", f"{size['manifest']:,} bytes", "about"),
        ("all of the output", _span(human_size(size["total"]), human_size(size["total_most"])), ""),
        ("bits a weight, linear layers", _span(*bits), _surety(size)),
        ("peak memory", human_size(memory["peak_bytes"]), f"at {memory['what']}"),
        ("disk while it runs", human_size(found["disk_bytes"]), "at most"),
        ("time", human_time(found["seconds"]), "on this machine, by a short probe"),
    ]
    return table(("what", "how much", "how sure"), rows)


def _surety(size: Mapping[str, Any]) -> str:
    return "exact" if size["exact"] else str(size["note"])


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _bytes(low: int, high: int) -> str:
    return _span(f"{low:,}", f"{high:,}") + " bytes"


def special_table(special: list[Mapping[str, Any]]) -> str:
    """Shapes that are treated in a way of their own."""
    rows = [
        (
            "x".join(map(str, one["shape"])),
            str(one["count"]),
            f"{one['what']} ({one['first']}{', ...' if one['count'] > 1 else ''})",
        )
        for one in special
    ]
    header = ("shape", "matrices", "treated like this")
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(2)]
    lines = [(header[0].ljust(widths[0]), header[1].rjust(widths[1]), header[2])]
    lines += [(row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2]) for row in rows]
    return "\n".join("  ".join(line) for line in lines)


def plan_and_fact(plan: Mapping[str, Any], fact: Mapping[str, Any]) -> list[Row]:
    """What was planned beside what came."""
    size, memory = plan["size"], plan["memory"]
    rows = [
        ("weight files", _bytes(size["weights"], size["weights_most"]),
         _bytes(fact["weights"], fact["weights"])),
        ("all of the output", _span(human_size(size["total"]), human_size(size["total_most"])),
         human_size(fact["total"])),
        ("peak memory", human_size(memory["peak_bytes"]), _beside(
            human_size(fact.get("peak_bytes")), memory["peak_bytes"], fact.get("peak_bytes"))),
    ]  # fmt: skip
    planned = human_time(plan["seconds"])
    if fact.get("continued"):
        rows.append(("time", planned, f"{human_time(fact['seconds'])} since it went on"))
    else:
        came = _beside(human_time(fact["seconds"]), plan["seconds"], fact["seconds"])
        rows.append(("time", planned, came))
    return rows


def _beside(shown: str, planned: float, came: float | None) -> str:
    """What came, and by how much it is more or less than planned."""
    if came is None or not planned:
        return MISSING if came is None else shown
    return f"{shown} ({100 * (came / planned - 1):+.0f} %)"
