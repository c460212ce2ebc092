"""``--ram`` and ``--time``: ceilings, and the forecast that judges them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrc.cli.commands.values import duration, memory_size
from lrc.errors import SpecError
from lrc.spec import AllocationSpec, CompressSpec

if TYPE_CHECKING:
    from lrc.pipeline.forecast import Forecast


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--ram",
        type=memory_size,
        metavar="SIZE",
        help="most memory, such as 4G (G counts by 1024): activations go to disk and matrices "
        "are taken one by one where they must; no byte of the result changes",
    )
    group.add_argument(
        "--time",
        type=duration,
        metavar="TIME",
        help="most time, such as 30m or 2h: the effort that fits is chosen, matrices that are late "
        "are searched less hard for, and what is left goes into tuning as of lrc tune; the result "
        "depends on the clock, and lrc reproduce knows what was chosen",
    )


def forecast_for(
    args: argparse.Namespace, spec: CompressSpec, allocation: AllocationSpec | None, out: Path
) -> Forecast | None:
    """The forecast, within the limits that were given; None of a speech model.

    Raises
    ------
    SpecError
        A limit is out of reach: what is possible, and what to do.
    """
    from lrc.models.opened import open_original
    from lrc.models.speech import hears
    from lrc.pipeline.forecast import forecast
    from lrc.pipeline.forecast.forecast import check_disk, check_time

    model, checkpoint = open_original(args.model)
    if hears(model):
        if args.ram is not None or args.time is not None:
            name = "ram" if args.ram is not None else "time"
            raise SpecError(
                f"--{name} counts windows of text, and this is a speech model; leave it out, and "
                "give fewer --nsamples where there is little"
            )
        return None
    found = forecast(model, checkpoint, spec, allocation, ram=args.ram, threads=args.threads)
    check_disk(found, out)
    check_time(found, args.time, named=args.preset is not None or isinstance(args.effort, str))
    return found


def memory_words(memory: dict[str, Any]) -> str:
    """How memory is used to keep to a ceiling."""
    from lrc.cli.tables import human_size

    ways = []
    if memory["spooled"]:
        ways.append(f"{human_size(memory['spooled_bytes'])} of activations on disk")
    if not memory["side_by_side"]:
        ways.append("one matrix at a time")
    return ", ".join([*ways, f"{memory['threads']} threads"])
