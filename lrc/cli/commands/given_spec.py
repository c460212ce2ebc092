"""The :class:`~lrc.spec.CompressSpec` that the options of ``lrc compress`` make up."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from lrc.cli.commands.calibration_options import calibration_values
from lrc.cli.commands.metric_options import metric_from
from lrc.cli.commands.spec_config import read_config
from lrc.errors import SpecError
from lrc.recipes import with_recipe
from lrc.spec import (
    AllocationSpec,
    CompressSpec,
    DecomposeSpec,
    QuantSpec,
)
from lrc.spec.presets import DEFAULT, EFFORTS, Preset, get_preset
from lrc.spec.settings import changed_quant


def allocation_from_options(args: argparse.Namespace) -> AllocationSpec | None:
    """The budget that was given, or None.

    Raises
    ------
    SpecError
        The options contradict each other.
    """
    given = args.target_bpw is not None or args.target_size is not None
    for name in ("bits", "codebook", "group_size"):
        if given and getattr(args, name) is not None:
            raise SpecError(
                f"--{name.replace('_', '-')} and a target contradict each other: "
                "the target chooses it; leave one of them out"
            )
    if not given:
        if args.generations is not None:
            raise SpecError("--generations needs --target-bpw or --target-size")
        return None
    named = _named(args) or get_preset(DEFAULT)
    return AllocationSpec(
        bits_per_weight=args.target_bpw or 0.0,
        file_bytes=args.target_size or 0,
        passes=named.passes,
        heldout_windows=named.heldout_windows,
        generations=args.generations or 0,
    )


def _named(args: argparse.Namespace) -> Preset | None:
    """The effort or the preset that was given; None without one."""
    if args.effort is not None:
        return EFFORTS[args.effort]
    return None if args.preset is None else get_preset(args.preset)


def _base(args: argparse.Namespace, width: int) -> CompressSpec:
    """What ``--config`` and options override: a preset or the plain defaults, then a recipe.

    A method of the literature has its own metric, whatever a preset would weigh errors by.
    """
    targeted = args.target_bpw is not None or args.target_size is not None
    named = _named(args) or (get_preset(DEFAULT) if targeted else None)
    plain = CompressSpec(decompose=DecomposeSpec(quant=QuantSpec.for_bits(width)))
    base = plain if named is None else named.spec(width)
    if args.recipe is None:
        return base
    return with_recipe(args.recipe, dataclasses.replace(base, metric=plain.metric))


def spec_from_options(args: argparse.Namespace, width: int = QuantSpec().bits) -> CompressSpec:
    """A preset, overridden by ``--config``, overridden by the options that were given.

    ``width`` is the bits a weight of what nothing says.

    Raises
    ------
    SpecError
        The values, or their combination, are not allowed.
    """
    if args.keep is not None and args.rank is not None:
        raise SpecError("--keep and --rank contradict each other: give one of them")
    base = _base(args, width)
    if args.config is not None:
        base = read_config(args.config, base)
    decompose = base.decompose
    spec: CompressSpec = _replace(
        base,
        decompose=_replace(
            decompose,
            quant=changed_quant(decompose.quant, args.codebook, args.bits, args.group_size),
            low_rank=_replace(
                decompose.low_rank,
                rank=args.rank,
                factor_bits=args.factor_bits,
                keep=0.0 if args.keep is None and args.rank is not None else args.keep,
            ),
            rotation=args.rotation,
            damping=args.damping,
            iterations=args.iterations,
            seed=args.seed,
            device=args.device,
        ),
        calibration=_replace(base.calibration, **calibration_values(args)),
        distil=_replace(base.distil, epochs=args.distil),
        metric=metric_from(args, base),
        bias=args.bias,
        ranks=args.ranks,
        basis_blocks=args.basis_blocks,
        embed_bits=args.embed_bits,
        head_bits=args.head_bits,
        portable=args.portable,
    )
    return spec


def _replace(record: Any, **given: Any) -> Any:
    return dataclasses.replace(record, **{k: v for k, v in given.items() if v is not None})
