"""The records of a measurement as Markdown tables and as a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrc.cli.tables import human_size, human_time, number, with_error

Record = dict[str, Any]


def markdown(rows: Sequence[Record]) -> str:
    """One table a reference model, a table of the other texts, one of the ablations."""
    parts = []
    for reference in dict.fromkeys(row["reference"] for row in rows):
        own = [row for row in rows if row["reference"] == reference and "error" not in row]
        if own:
            parts += [f"### Against the {reference}", "", *_main(own), "", *_texts(own), ""]
    ablated = [row for row in rows if row.get("to_base")]
    if ablated:
        parts += ["### Ablation of " + ablated[0]["base"], "", *_ablation(ablated), ""]
    failed = [row for row in rows if "error" in row]
    parts += [f"- `{row['setting']}` ({row['reference']}) failed: {row['error']}" for row in failed]
    return "\n".join(parts).rstrip() + "\n"


def chart(rows: Sequence[Record], path: Path) -> None:
    """Perplexity ratio and KL divergence over file size, an SVG; needs matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    shown = [row for row in rows if _belongs(row)]
    families = list(dict.fromkeys(row["family"] for row in shown))
    with matplotlib.rc_context({"svg.hashsalt": "lrc", "svg.fonttype": "none"}):
        figure = Figure(figsize=(10, 4.5), layout="constrained")
        panels = figure.subplots(1, 2)
        named = (
            ("perplexity_ratio", "perplexity / original's"),
            ("kl_divergence", "KL divergence from the original (nats)"),
        )
        for axes, (key, label) in zip(panels, named, strict=True):
            for index, family in enumerate(families):
                own = sorted((r for r in shown if r["family"] == family), key=_size)
                _series(axes, own, key, family, "os^DvP*X"[index % 8])
            axes.set_yscale("log")
            axes.set_xlabel("file size (MB)")
            axes.set_ylabel(label)
            axes.grid(True, which="both", alpha=0.3)
        panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 1.1, 1.2, 1.5, 2, 3, 5, 7)))
        panels[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panels[0].yaxis.set_minor_formatter(NullFormatter())
        if families:
            panels[1].legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _series(axes: Any, rows: list[Record], key: str, label: str, marker: str) -> None:
    """Points of one family, joined; bars where a record has an interval."""
    ends = [row[key.replace("_divergence", "") + "_interval"] or (row[key],) * 2 for row in rows]
    below = [max(row[key] - low, 0) for row, (low, _) in zip(rows, ends, strict=True)]
    above = [max(high - row[key], 0) for row, (_, high) in zip(rows, ends, strict=True)]
    x, y = [_size(row) for row in rows], [row[key] for row in rows]
    axes.errorbar(x, y, yerr=(below, above), label=label, marker=marker, capsize=2, lw=1)
    for row in rows:
        point = (_size(row), row[key])
        axes.annotate(row["setting"], point, (4, 4), textcoords="offset points", fontsize=7)


def _belongs(row: Record) -> bool:
    """Whether a row is compressed from the original itself, and its figures are numbers."""
    values = (row.get("perplexity_ratio"), row.get("kl_divergence"))
    finite = all(value is not None and math.isfinite(value) for value in values)
    return finite and row["reference"] == "original" and "ablation" not in row


def _size(row: Record) -> float:
    return float(row["file_bytes"]) / 1e6


def _main(rows: list[Record]) -> list[str]:
    header = (
        "", "size", "bits, linear layers", "bits, file", "perplexity", "over original's [95 %]",
        "KL divergence [95 %]", "top-1", "compressed in", "peak memory",
    )  # fmt: skip
    return _table(
        header,
        [
            (
                f"`{row['setting']}`",
                human_size(row["file_bytes"]),
                number(row["bits_per_weight_linear"]),
                number(row["bits_per_weight_file"]),
                with_error(row["perplexity"], row["perplexity_stderr"]),
                _with_ends(row["perplexity_ratio"], row["perplexity_ratio_interval"]),
                _with_ends(row["kl_divergence"], row["kl_interval"]),
                number(row["top1_agreement"], 3),
                human_time(row.get("seconds")),
                human_size(row.get("peak_rss_bytes")),
            )
            for row in rows
        ],
    )


def _texts(rows: list[Record]) -> list[str]:
    """The other texts and numbers of windows: two columns each."""
    names = [(more["text"], more["windows"]) for more in rows[0]["more"]]
    header = [""]
    for name, windows in names:
        header += [f"perplexity, {name}, {windows} windows", "KL divergence"]
    lines = []
    for row in rows:
        cells = [f"`{row['setting']}`"]
        for more in row["more"]:
            cells.append(with_error(more["perplexity"], more["perplexity_stderr"]))
            cells.append(_with_ends(more["kl_divergence"], more["kl_interval"]))
        lines.append(cells)
    return _table(header, lines) if names else []


def _ablation(rows: list[Record]) -> list[str]:
    header = (
        "", "setting", "bits, linear layers", "perplexity over base's [95 %]",
        "KL minus base's [95 %]", "seconds",
    )  # fmt: skip
    return _table(
        header,
        [
            (
                row["ablation"],
                f"`{row['setting']}`",
                number(row["bits_per_weight_linear"]),
                _with_ends(
                    row["to_base"]["perplexity_ratio"],
                    row["to_base"]["perplexity_ratio_interval"],
                ),
                _with_ends(
                    row["to_base"]["kl_difference"], row["to_base"]["kl_difference_interval"]
                ),
                number(row.get("seconds"), 3),
            )
            for row in rows
        ],
    )


def _with_ends(value: float | None, ends: Sequence[float] | None) -> str:
    if ends is None:
        return number(value)
    return f"{number(value)} [{number(ends[0])}, {number(ends[1])}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["--:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]
