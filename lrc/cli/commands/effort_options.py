"""``--effort``: what is chosen for a word or for minutes, and what it will take."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from lrc.cli.commands.base import Console
from lrc.cli.commands.given_spec import allocation_from_options, spec_from_options
from lrc.cli.commands.target_options import for_target
from lrc.cli.tables import human_time, number
from lrc.errors import SpecError
from lrc.spec import AllocationSpec, CompressSpec, QuantSpec
from lrc.spec.presets import EFFORTS
from lrc.spec.settings import Setting, with_settings

if TYPE_CHECKING:
    from lrc.pipeline.plan import Plan

#: Part of ``--time`` that the effort is chosen for: estimates are off, and the rest is not lost.
FIRST_PASS = 0.7


def chosen(
    args: argparse.Namespace, console: Console
) -> tuple[CompressSpec, AllocationSpec | None]:
    """The parameters and the budget that the options ask for; with an effort a note says which.

    Raises
    ------
    SpecError
        The options contradict each other.
    """
    spec, allocation = _by_options(args, console)
    if args.settings:
        from lrc.models.opened import open_original

        settings = [Setting.parse(text) for text in args.settings]
        spec = with_settings(spec, open_original(args.model)[0].tensors.matrices, settings)
    return spec, allocation


def _by_options(
    args: argparse.Namespace, console: Console
) -> tuple[CompressSpec, AllocationSpec | None]:
    if args.target is not None or args.gguf_type is not None:
        return for_target(args), None
    width = _width(args)
    limit = getattr(args, "time", None)
    if args.effort is None and (limit is None or args.preset is not None):
        return spec_from_options(args, width), allocation_from_options(args)
    if args.preset is not None:
        raise SpecError("--effort and --preset contradict each other: leave one of them out")
    if limit is not None and isinstance(args.effort, float):
        raise SpecError("--effort MINUTES and --time contradict each other: give one of them")
    names = [args.effort] if isinstance(args.effort, str) else list(EFFORTS)
    options = {name: argparse.Namespace(**(vars(args) | {"effort": name})) for name in names}
    specs = {name: spec_from_options(each, width) for name, each in options.items()}
    budgets = {name: allocation_from_options(each) for name, each in options.items()}
    from lrc.models.opened import open_original
    from lrc.models.speech import SpeechModel
    from lrc.pipeline.plan import plan

    model, _ = open_original(args.model)
    if isinstance(model, SpeechModel):
        name = "effort" if limit is None else "time"
        raise SpecError(f"--{name} counts windows of text; give a speech model --nsamples instead")
    if isinstance(args.effort, str):
        seconds = math.inf
    else:
        seconds = FIRST_PASS * limit if limit is not None else 60 * args.effort
    made = plan(model, specs, seconds, allocations=budgets, threads=args.threads)
    console.progress.note(plan_line(made))
    if not made.fits and limit is None:
        console.progress.note(f"that is more than {human_time(seconds)}: nothing less is known")
    return made.spec, budgets[made.name]


def _width(args: argparse.Namespace) -> int:
    """Bits where neither an option nor a budget says them: those of a model of this size."""
    if any(getattr(args, name) is not None for name in ("bits", "target_bpw", "target_size")):
        return QuantSpec().bits
    from lrc.models.opened import open_original
    from lrc.pipeline.width import default_bits
    from lrc.quant.cuda import require_device

    require_device(args.device or "cpu")
    model, _ = open_original(args.model)
    return default_bits(model)


def plan_line(made: Plan) -> str:
    """What was chosen and what is expected, in a sentence."""
    spec, speeds = made.spec, made.speeds
    return (
        f"effort {made.name}: {spec.calibration.nsamples} windows of text, "
        f"{spec.decompose.quant.codebook}, {spec.decompose.polish_sweeps} sweeps; "
        f"about {human_time(made.seconds)} at {number(speeds.multiplications / 1e9)} billion "
        f"products and {number(speeds.weights / 1e6)} million weights solved a second"
    )
