"""What was chosen for a compression, and how to do the same again."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from lrc.calibrate.corpus import GIVEN
from lrc.cli.sample_text import SAMPLE_NAME
from lrc.cli.tables import calibration_line, number
from lrc.measure.quality import KeptEvaluation
from lrc.parts import describe
from lrc.parts.fields import MATRIX
from lrc.spec import CompressSpec

_PLURAL = {MATRIX: "matrices"}
#: A row of a table.
Row = tuple[str, ...]


def differing(spec: Mapping[str, Any]) -> list[Row]:
    """Options of a stored spec that are not today's defaults, with both values."""
    default = dict(_leaves(CompressSpec().to_dict()))
    return [
        (name, _shown(value), _shown(default.get(name, "not known to this version")))
        for name, value in _leaves(spec)
        if json.dumps(value) != json.dumps(default.get(name))
    ]


def _shown(value: Any) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _leaves(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping) and name != "matrices":
            yield from _leaves(value, f"{prefix}{name}.")
        elif name != "matrices":
            yield prefix + name, list(value) if isinstance(value, tuple) else value


def kinds_of_matrices(matrices: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """How matrices are stored, how many so, and why the first of them is."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in matrices.values():
        found.setdefault(describe(record["parts"]), []).append(record)
    rows: list[Row] = []
    for what, records in sorted(found.items(), key=lambda item: -len(item[1])):
        roles = Counter(record.get("role", MATRIX) for record in records)
        reasons = [record["reason"] for record in records if record.get("reason")]
        who = ", ".join(_PLURAL.get(role, role) + f" ({n})" for role, n in roles.items())
        rows.append((what, who, reasons[0] if reasons else ""))
    return rows


def plan_against_fact(
    allocation: Mapping[str, Any], sizes: Mapping[str, Any], found: tuple[KeptEvaluation, ...]
) -> list[Row]:
    """What a budget asked for and predicted, beside what came."""
    target: Mapping[str, Any] = allocation.get("target", {})
    rows: list[Row] = []
    if target.get("bits_per_weight"):
        rows.append(("bits a weight, linear layers", number(target["bits_per_weight"]),
                     number(sizes["bits_per_weight_linear"])))  # fmt: skip
    if target.get("file_bytes"):
        rows.append(("bytes of the weight files", str(target["file_bytes"]),
                     str(sizes["file_bytes"])))  # fmt: skip
    predicted = allocation["predicted_kl"]
    ends = predicted if isinstance(predicted, list) else [predicted]
    measured = [number(e.kl_divergence) + f" ({e.text})" for e in found if e.kl_divergence]
    rows.append(("KL divergence, nats a token", " to ".join(number(end, 3) for end in ends),
                 "; ".join(measured) or "not measured"))  # fmt: skip
    return rows


def origin_of_plan(allocation: Mapping[str, Any]) -> str:
    """That a budget chose, and where its prediction comes from; old models do not say."""
    origin = allocation.get("predicted_kl_origin")
    told = "bits and rank of every matrix were chosen for a budget"
    return f"{told}; the divergence that was planned is {origin}" if origin else told


def calibration(report: Mapping[str, Any]) -> str:
    """What was calibrated on; old models do not say."""
    record = report.get("calibration", {})
    if "source" not in record and "utterances" not in record:
        return f"calibrated on {record.get('tokens', 'an unknown number of')} tokens"
    return calibration_line(record)


def is_calibrated_by_caller(report: Mapping[str, Any]) -> bool:
    """Whether a program gave the tokens, so that no command can."""
    return bool(report.get("calibration", {}).get("source") == GIVEN)


def commands(report: Mapping[str, Any], found: tuple[KeptEvaluation, ...]) -> list[str]:
    """The commands that give this model, from its spec in a file, and its figures again."""
    model = report["source"].get("name", "MODEL")
    made = [f"lrc compress {model} -o OUT --config spec.json"]
    made += [f"lrc tune OUT --against {model}"] * len(report.get("tuned", ()))
    return [*made, *dict.fromkeys(_evaluating(e) for e in found)]


def _evaluating(of: KeptEvaluation) -> str:
    text = "" if of.text == SAMPLE_NAME else f" --text {shlex.quote(of.text)}"
    against = f" --against {shlex.quote(of.against)}" if of.against else ""
    return (
        f"lrc eval OUT{against}{text} --ctx {of.ctx} --windows {of.windows} --score {of.score} "
        f"--activations {of.activations} --keep"
    )
