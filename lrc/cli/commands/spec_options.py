"""The options of ``lrc compress`` that make up a :class:`~lrc.spec.CompressSpec`."""

from __future__ import annotations

import argparse
from pathlib import Path

from lrc import codebooks
from lrc.cli.commands.calibration_options import add_calibration_options
from lrc.cli.commands.metric_options import add_metric_options
from lrc.cli.commands.values import byte_count, effort, number_or_auto
from lrc.recipes import ALONE, OVER_CODES, RECIPES
from lrc.recipes.ggml_types import MIXES
from lrc.spec import (
    DEVICES,
    RANKS,
    ROTATIONS,
    CompressSpec,
)
from lrc.spec.presets import DEFAULT, EFFORTS, PRESETS


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
