"""Everything that a compressed model's record says a reader should know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Remark:
    """What is on record, of how many matrices, and the first of them; none for the whole model."""

    text: str
    count: int = 0
    first: str = ""


def remarks(report: Mapping[str, Any], outdated: int = 0) -> tuple[list[Remark], list[Remark]]:
    """Warnings of the whole model, and notes of its matrices, the most frequent first.

    ``outdated`` evaluations are of what the model was before it was changed.
    """
    told = [Remark(text) for text in report.get("warnings", ())]
    if dropped := report.get("calibration", {}).get("dropped_rows"):
        told.append(Remark(f"{dropped} rows of activations were not finite and left out"))
    for use in report.get("calibration", {}).get("files") or ():
        for field, what in (("skipped_records", "records skipped"),
                            ("replaced_characters", "characters replaced")):  # fmt: skip
            if use.get(field):
                told.append(Remark(f"{use['file']}: {use[field]} {what}"))
    if outdated:
        told.append(
            Remark(
                f"evaluations of what the model was before it was changed, {outdated} of them, are "
                "not shown; evaluate again with lrc eval --keep"
            )
        )
    found: dict[str, list[str]] = {}
    for name, record in report["matrices"].items():
        for text in (*record.get("warnings", ()), *record.get("notes", ())):
            found.setdefault(text, []).append(name)
    grouped = [Remark(text, len(names), names[0]) for text, names in found.items()]
    return told, sorted(grouped, key=lambda remark: -remark.count)
