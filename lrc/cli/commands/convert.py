"""``lrc import-gguf`` and ``lrc export``: the borders to other formats."""

from __future__ import annotations

import argparse
from pathlib import Path

from lrc.base.progress import counted
from lrc.cli.commands.base import Console, SubParsers, add_model, add_out, add_verb
from lrc.convert import TARGETS, export


def add(subparsers: SubParsers) -> None:
    """Add both verbs."""
    gguf = add_verb(
        subparsers, "import-gguf", run_import, "write a GGUF model as a Hugging Face directory"
    )
    gguf.add_argument("file", type=Path, metavar="FILE", help="GGUF file, or any of its parts")
    add_out(gguf)
    export = add_verb(
        subparsers, "export", run_export, "write a compressed model for other programs"
    )
    add_model(export, "compressed model directory")
    export.add_argument(
        "--to",
        choices=tuple(TARGETS),
        default="hf",
        help="; ".join(f"{name}: {row.says}" for name, row in TARGETS.items()),
    )
    add_out(export)


def run_import(args: argparse.Namespace, console: Console) -> None:
    """Import a GGUF file."""
    from lrc.convert.gguf import import_gguf

    with counted(console.progress, "tensor") as tell:
        import_gguf(args.file, args.out, tell)
    console.line(f"wrote {args.out}")


def run_export(args: argparse.Namespace, console: Console) -> None:
    """Export to the target asked for."""
    with counted(console.progress, "tensor") as tell:
        export(args.model, args.out, args.to, progress=tell, note=console.progress.note)
    console.line(f"wrote {args.out}")
