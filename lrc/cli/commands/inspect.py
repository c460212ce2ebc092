"""``lrc inspect``."""

from __future__ import annotations

import argparse
from typing import Any

from lrc.cli.commands.base import Console, SubParsers, add_json, add_model, add_verb
from lrc.cli.tables import allocation_line, experts_line, human_size, matrix_table, number


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "inspect", run, "show what every matrix of a model became")
    add_model(parser, "model directory, dense or compressed")
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Show a line a matrix, then the totals."""
    from lrc.measure.storage import dense_matrices, storage
    from lrc.models.opened import open_for_inspection
    from lrc.parts.packed import PackedCheckpoint
    from lrc.run.runs_on import runs_on

    source = open_for_inspection(args.model)
    totals = storage(source)
    record: dict[str, Any] = {"kind": source.kind, "runs_on": runs_on(source), **totals}
    if isinstance(source, PackedCheckpoint):
        record = {**source.report, **record}
    else:
        record["matrices"] = dense_matrices(source)
    if args.json:
        console.json(record)
        return
    console.line(matrix_table(record["matrices"]))
    console.line("")
    console.line(
        f"{args.model} ({source.kind}): {human_size(totals['file_bytes'])}, "
        f"{number(totals['bits_per_weight_linear'])} bits per weight in the linear layers, "
        f"{number(totals['bits_per_weight_file'])} in the whole file"
    )
    console.line(f"runs on: {record['runs_on']}")
    if experts := experts_line(record["matrices"]):
        console.line(experts)
    if record.get("allocation"):
        console.line(allocation_line(record["allocation"]))
