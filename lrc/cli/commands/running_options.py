"""How a model runs, as verbs that make text are told."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from lrc.errors import LrcError

if TYPE_CHECKING:
    from lrc.models.adapted import Adapter


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add adapters, and what makes texts faster."""
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="PATH[=SCALE]",
        help="add a LoRA adapter, a directory of PEFT or a GGUF file, times a number (default: 1); "
        "may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--lookup", type=int, default=0, metavar="N",
        help="read up to N tokens ahead where the last ones were in the text before: faster where "
        "text is taken over, as in rewriting; the same text as with --activations i15 "
        "(default: 0, none)",
    )  # fmt: skip
    parser.add_argument(
        "--kv-bits", type=int, choices=(8, 4), default=0, metavar="8|4",
        help="keep keys and values of texts in 8 or 4 bits, for less memory; 4 show in texts "
        "(default: float32)",
    )  # fmt: skip


def add_schema(parser: argparse.ArgumentParser) -> None:
    """Add ``--json-schema``."""
    parser.add_argument(
        "--json-schema", type=Path, metavar="FILE",
        help="make JSON that follows the schema in FILE; needs the extra schema",
    )  # fmt: skip


def schema_of(args: argparse.Namespace) -> str | None:
    """The schema that was asked for, where one was."""
    if args.json_schema is None:
        return None
    from lrc.run.schema import read_schema

    return read_schema(args.json_schema)


def adapters_of(given: list[str]) -> list[tuple[Adapter, float]]:
    """The adapters that ``--adapter`` names, with their scales.

    Raises
    ------
    LrcError
        One is neither a directory nor a GGUF file.
    """
    return [_adapter(text) for text in given]


def _adapter(given: str) -> tuple[Adapter, float]:
    from lrc.models.peft_adapter import PeftAdapter

    path, scale = Path(given), 1.0
    before, equals, number = given.rpartition("=")
    if equals and not path.exists():
        path = Path(before)
        try:
            scale = float(number)
        except ValueError:
            scale = math.nan
        if not math.isfinite(scale):
            raise LrcError(f"--adapter {given}: {number!r} is no number; write it as PATH=0.5")
    if path.is_dir():
        return PeftAdapter(path), scale
    if path.suffix == ".gguf":
        from lrc.convert.gguf.lora import GgufAdapter

        return GgufAdapter(path), scale
    raise LrcError(
        f"--adapter {given} is neither a directory of PEFT nor a GGUF file; check the path"
    )
