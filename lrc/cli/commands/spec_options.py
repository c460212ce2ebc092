"""The options of ``lrc compress`` that make up a :class:`~lrc.spec.CompressSpec`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from lrc import codebooks
from lrc.cli.commands.calibration_options import add_calibration_options, calibration_values
from lrc.cli.commands.metric_options import add_metric_options, metric_from
from lrc.cli.commands.spec_config import read_config
from lrc.cli.commands.values import byte_count, effort, number_or_auto
from lrc.errors import SpecError
from lrc.recipes import ALONE, OVER_CODES, RECIPES, with_recipe
from lrc.recipes.ggml_types import MIXES
from lrc.spec import (
    DEVICES,
    RANKS,
    ROTATIONS,
    AllocationSpec,
    CompressSpec,
    DecomposeSpec,
    QuantSpec,
)
from lrc.spec.presets import DEFAULT, EFFORTS, PRESETS, Preset, get_preset
from lrc.spec.settings import changed_quant


def add_spec_options(parser: argparse.ArgumentParser) -> None:
    """Add every option that decides the bytes of the result.

    An option that is not given leaves the value of ``--config``, or else the default.
    """
    grouped = " and ".join(name for name, row in codebooks.CODEBOOKS.items() if row.grouped)
    default = CompressSpec()
    solve = default.decompose
    _add_budget_options(parser)
    _add_target_options(parser)
    matrix = parser.add_argument_group("each matrix")
    matrix.add_argument(
        "--bits",
        type=int,
        help="bits a weight of Q (default: 4, from a billion weights in the matrices on 3)",
    )
    matrix.add_argument(
        "--codebook",
        choices=tuple(codebooks.CODEBOOKS),
        metavar="NAME",
        help=f"how Q is coded, with the bits a weight that there are: {codebooks.describe()} "
        f"(default: {codebooks.DEFAULT})",
    )
    matrix.add_argument(
        "--group-size",
        type=int,
        help=f"weights that share a scale, 0 for a row ({grouped} only)",
    )
    matrix.add_argument(
        "--rank",
        type=number_or_auto,
        metavar="auto|N",
        help=f"rank of L R (default: {solve.low_rank.rank})",
    )
    matrix.add_argument(
        "--factor-bits", type=int, help=f"bits of L and R (default: {solve.low_rank.factor_bits})"
    )
    matrix.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        metavar="NAME",
        help="a method of the literature, which decides other options where they are not given: "
        f"Q with or without L R ({', '.join(OVER_CODES)}), or L R alone, with --keep or --rank "
        f"({', '.join(ALONE)}) (default: {solve.recipe})",
    )
    matrix.add_argument(
        "--keep",
        type=float,
        metavar="PART",
        help="part of each matrix's numbers that L and R have together, such as 0.8: the rank "
        "follows",
    )
    matrix.add_argument(
        "--rotation",
        choices=ROTATIONS,
        help=f"random rotation of W, which evens out its values (default: {solve.rotation})",
    )
    matrix.add_argument(
        "--damping", type=float, help=f"share of diag(H) added to H (default: {solve.damping})"
    )
    matrix.add_argument(
        "--iterations", type=int, help=f"most Q - LR alternations (default: {solve.iterations})"
    )
    matrix.add_argument(
        "--set",
        action="append",
        dest="settings",
        metavar="REGEX:KEY=VALUE,...",
        help="bits, codebook, group_size, rank, factor_bits or keep of the matrices whose names "
        "have REGEX in them, as 'down:bits=4,rank=16'; may be given several times, and a "
        "target leaves them as they are",
    )
    matrix.add_argument(
        "--distil",
        type=int,
        metavar="EPOCHS",
        help="once a block is solved, let its L and R learn what the original's block gives, the "
        f"text seen so many times (default: {default.distil.epochs})",
    )
    matrix.add_argument(
        "--ranks",
        choices=RANKS,
        help="how L R alone shares out among matrices what --keep takes away: equal parts, by a "
        "threshold on singular values, by the loss of a matrix's kind, from the last blocks, or "
        f"for the least loss (default: {default.ranks})",
    )
    matrix.add_argument(
        "--basis-blocks",
        type=int,
        metavar="N",
        help="with --recipe basis-sharing: neighbouring blocks whose matrices of a kind have one R",
    )
    matrix.add_argument(
        "--bias",
        action="store_true",
        default=None,
        help="give every linear layer a bias that makes up for the mean of its error, with "
        "--streams original or --mix 0 --repair 0",
    )
    add_metric_options(matrix)
    add_calibration_options(parser, imatrix=True)
    rest = parser.add_argument_group("the rest")
    rest.add_argument(
        "--embed-bits",
        type=number_or_auto,
        help="bits of the embeddings (default: auto, what is worth it beside the matrices' bits)",
    )
    rest.add_argument(
        "--head-bits", type=number_or_auto, help="bits of an untied head (default: as many)"
    )
    rest.add_argument("--seed", type=int, help=f"seed of everything drawn (default: {solve.seed})")
    place = f"where codes are found; cuda gives bytes of its own (default: {solve.device})"
    rest.add_argument("--device", choices=DEVICES, help=place)
    rest.add_argument(
        "--portable",
        action="store_true",
        default=None,
        help="give the same bytes on processors of all types that have AVX2 (or 64-bit ARM ones "
        "among themselves): no wider instructions in NumPy and OpenBLAS",
    )
    rest.add_argument(
        "--config", type=Path, metavar="FILE", help="JSON of these values; options override it"
    )


def _add_target_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for other programs")
    group.add_argument(
        "--for",
        dest="target",
        choices=("gguf", "compressed-tensors", "gptq"),
        help="code matrices as another program has them, for lrc export --to the same: without "
        "rotation, and without L R unless --rank is given. gguf: blocks of ggml, tables too "
        f"(default of --codebook then: {codebooks.GGUF}); compressed-tensors and gptq: whole "
        "numbers of 2, 3, 4 or 8 bits (default: 4) in groups, tables in 16 bits",
    )
    group.add_argument(
        "--type",
        dest="gguf_type",
        metavar="NAME|FILE",
        help="with --for gguf: a type of llama.cpp, a mix of them "
        f"({', '.join(name.upper() for name in MIXES)}), or a GGUF file of the model, whose types "
        "are taken tensor by tensor",
    )


def _add_budget_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how good, how large")
    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help=f"defaults of other options, by how long they take (with a target: {DEFAULT})",
    )
    target = group.add_mutually_exclusive_group()
    target.add_argument(
        "--target-bpw",
        type=float,
        metavar="X",
        help="choose codebook, bits and rank of every matrix for at most X stored bits a weight "
        "in the linear layers",
    )
    target.add_argument(
        "--target-size",
        type=byte_count,
        metavar="SIZE",
        help="the same for weight files of at most SIZE, such as 60MB, embedding and head included",
    )
    group.add_argument(
        "--effort",
        type=effort,
        metavar="WORD|MINUTES",
        help=f"text and search by a word ({', '.join(EFFORTS)}), or as much of them as this "
        "machine is expected to do in so many minutes; a short probe says how long it will take",
    )
    group.add_argument(
        "--survey",
        type=Path,
        metavar="DIR",
        help="keep what a target needs to know of the model in DIR, and use it for further targets",
    )
    group.add_argument(
        "--generations",
        type=int,
        metavar="N",
        help="rounds of search end to end after the first answer to a target (default: 0)",
    )


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
    """What ``--config`` and options override: a preset or the plain defaults, then a recipe."""
    targeted = args.target_bpw is not None or args.target_size is not None
    named = _named(args) or (get_preset(DEFAULT) if targeted else None)
    plain = CompressSpec(decompose=DecomposeSpec(quant=QuantSpec.for_bits(width)))
    base = plain if named is None else named.spec(width)
    return base if args.recipe is None else with_recipe(args.recipe, base)


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
