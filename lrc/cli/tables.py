"""Text tables from plain records. Nothing here prints."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

#: Shown where a value does not apply.
MISSING = "-"


def human_size(count: float | None) -> str:
    """Bytes with a decimal unit.

    Examples
    --------
    >>> human_size(999), human_size(1_500_000)
    ('999 B', '1.5 MB')
    """
    if count is None:
        return MISSING
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def human_time(seconds: float | None) -> str:
    """Seconds as a person would say them.

    Examples
    --------
    >>> human_time(4.21), human_time(75), human_time(7384)
    ('4.2 s', '1 min 15 s', '2 h 03 min')
    """
    if seconds is None:
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number(value: float | None, digits: int = 4) -> str:
    """``value`` to ``digits`` significant digits; a dash when there is none.

    Examples
    --------
    >>> number(0.0123456), number(None), number(23.5)
    ('0.01235', '-', '23.5')
    """
    if value is None:
        return MISSING
    return f"{value:.{digits}g}"


def ends(interval: Sequence[float] | None) -> str:
    """`` [low, high]``, or nothing where there is no interval.

    Examples
    --------
    >>> ends((0.5, 1)), ends(None)
    (' [0.5, 1]', '')
    """
    return "" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]"


def with_error(value: float | None, stderr: float | None, digits: int = 4) -> str:
    """``value ± standard error``, the error to two digits.

    Examples
    --------
    >>> with_error(23.512, 0.3349)
    '23.51 ± 0.33'
    """
    if value is None:
        return MISSING
    if stderr is None or not math.isfinite(stderr):
        return number(value, digits)
    return f"{number(value, digits)} ± {stderr:.2g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first flush left, the others flush right.

    Examples
    --------
    >>> print(table(("name", "bits"), [("first", "2.1"), ("k", "10.0")]))
    name   bits
    -----  ----
    first   2.1
    k      10.0
    """
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def matrix_table(matrices: Mapping[str, Mapping[str, Any]]) -> str:
    """One line a matrix: shape, bits a weight, parts, relative error, damping, warnings.

    Parameters
    ----------
    matrices
        Records by matrix name; a field that a record lacks is shown as a dash. The last column,
        why a matrix's parameters were chosen, is there if any record says so; those of an expert's
        tokens, and of the share of its moments that is of other tokens, if any is of an expert.
    """
    from lrc.parts import describe

    reasons = any(record.get("reason") for record in matrices.values())
    experts = any("routed_tokens" in record for record in matrices.values())
    header = (
        *("matrix", "shape", "bits", "parts", "error", "damping"),
        *(("tokens", "borrowed") if experts else ()),
        "warnings",
    )
    rows = [
        (
            name,
            "x".join(str(size) for size in record.get("shape", ())) or MISSING,
            number(record.get("bits_per_weight")),
            describe(record["parts"]) if "parts" in record else MISSING,
            number(record.get("relative_error"), 3),
            number(record.get("damping"), 3),
            *(
                (number(record.get("routed_tokens"), 9), number(record.get("borrowed"), 2))
                if experts
                else ()
            ),
            "; ".join((*record.get("warnings", ()), *record.get("notes", ()))) or MISSING,
            *((record.get("reason") or MISSING,) if reasons else ()),
        )
        for name, record in matrices.items()
    ]
    return table((*header, "chosen") if reasons else header, rows)


def experts_line(matrices: Mapping[str, Mapping[str, Any]]) -> str:
    """How many tokens the experts saw in calibration, and which saw few; empty without experts.

    Examples
    --------
    >>> seen = [(0, 1.0), (40, 0.8), (900, 0.1), (900, 0.1)]
    >>> experts_line({str(i): {"routed_tokens": t, "borrowed": b} for i, (t, b) in enumerate(seen)})
    'matrices of experts: 0 to 900 tokens routed to each, 470 in the middle; 1 of 4 saw none, 1 few'
    """
    records = [record for record in matrices.values() if "routed_tokens" in record]
    if not records:
        return ""
    tokens = sorted(record["routed_tokens"] for record in records)
    none = sum(count == 0 for count in tokens)
    few = sum(record["borrowed"] > 0.5 for record in records) - none
    return (
        f"matrices of experts: {tokens[0]} to {tokens[-1]} tokens routed to each, "
        f"{number(statistics.median(tokens))} in the middle; "
        f"{none} of {len(tokens)} saw none, {few} few"
    )


def allocation_line(summary: Mapping[str, Any]) -> str:
    """What a budget bought: how many matrices at which width, and the KL predicted with its origin.

    Older models have one number for the KL, and no origin.

    Examples
    --------
    >>> counts = {"2 bits": 5, "3 bits": 1}
    >>> allocation_line({"counts": counts, "predicted_kl": [0.2, 0.3], "predicted_kl_origin": "x"})
    'chosen for the budget: 2 bits for 5, 3 bits for 1; predicted KL 0.2 to 0.3 (x)'
    >>> allocation_line({"counts": counts, "predicted_kl": 0.25})
    'chosen for the budget: 2 bits for 5, 3 bits for 1; predicted KL 0.25'
    """
    counts = ", ".join(f"{what} for {count}" for what, count in summary["counts"].items())
    predicted = summary["predicted_kl"]
    ends = predicted if isinstance(predicted, Sequence) else [predicted]
    shown = " to ".join(dict.fromkeys(number(end, 2) for end in ends))
    origin = summary.get("predicted_kl_origin")
    return (
        f"chosen for the budget: {counts}; predicted KL {shown}{f' ({origin})' if origin else ''}"
    )


def calibration_line(record: Mapping[str, Any]) -> str:
    """What a compression was calibrated on, and how much of each file.

    Examples
    --------
    >>> files = [{"file": "a.txt", "tokens": 700}, {"file": "b.txt", "tokens": 324}]
    >>> calibration_line({"source": "files", "windows": 2, "window_tokens": 512, "files": files})
    'calibrated on 2 windows of 512 tokens: 700 tokens of a.txt, 324 of b.txt'
    >>> calibration_line({"source": "written by the model", "windows": 64, "window_tokens": 512})
    'calibrated on 64 windows of 512 tokens, written by the model'
    >>> calibration_line({"source": "audio", "utterances": 2, "seconds": 72.0, "lists": ["a"]})
    'calibrated on 2 utterances of 1 min 12 s in all, of a'
    """
    if "utterances" in record:
        long = human_time(record["seconds"])
        return (
            f"calibrated on {record['utterances']} utterances of {long} in all, of "
            f"{', '.join(record['lists'])}"
        )
    text = f"calibrated on {record['windows']} windows of {record['window_tokens']} tokens"
    files = record.get("files")
    if not files or "parts" in record:
        text = f"{text}, {record['source']}"
    if not files:
        return text
    first, *rest = ((use["tokens"], use["file"]) for use in files)
    uses = [f"{first[0]} tokens of {first[1]}", *(f"{tokens} of {name}" for tokens, name in rest)]
    return f"{text}: {', '.join(uses)}"


def self_test_line(tested: Mapping[str, Any]) -> str:
    """What a model that was just written made of one window.

    Examples
    --------
    >>> self_test_line(
    ...     {"tokens": 128, "loss": 3.125, "original_loss": 2.75, "greedy_agreement": 0.875}
    ... )
    'self-test on 128 tokens: loss 3.125 nats, of the original 2.75; 87.5 % of greedy tokens agree'
    """
    return (
        f"self-test on {tested['tokens']} tokens: loss {number(tested['loss'])} nats, of the "
        f"original {number(tested['original_loss'])}; "
        f"{number(100 * tested['greedy_agreement'], 3)} % of greedy tokens agree"
    )


def arithmetic_line(record: Mapping[str, Any], *, portable: bool) -> str:
    """Where the same command gives the same bytes."""
    if portable:
        return (
            f"portable: the same command gives the same bytes on {record['processor']} processors "
            "of all types"
        )
    known = (("OpenBLAS", record["blas"]), ("NumPy", record["numpy"]))
    here = " and ".join(f"{what} for {', '.join(names)}" for what, names in known if names)
    return (
        f"rounded as by {here or 'libraries of an unknown kind'}: on processors of other types "
        "last bits of sums, and so some codes, may differ; --portable gives the same bytes there"
    )


def json_ready(value: Any) -> Any:
    """``value`` with everything that JSON cannot say replaced: tuples, NumPy numbers, NaN.

    Examples
    --------
    >>> json_ready({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "item") and callable(value.item):
        return json_ready(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
