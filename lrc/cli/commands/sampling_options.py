"""How the next token is chosen, and where an answer ends, as verbs that make text are told."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lrc.errors import LrcError

if TYPE_CHECKING:
    from lrc.run.sampler import Sampler

#: Option, its type, its default, its metavar and its help.
_NUMBERS = (
    ("--temp", float, 0.7, "T", "how freely tokens are drawn: 0 takes the likeliest, 1 as the "
     "model says (default: 0.7)"),
    ("--top-p", float, 0.95, "P", "only the fewest likeliest tokens that reach this probability "
     "together (default: 0.95; 1: all)"),
    ("--top-k", int, 0, "N", "only the N likeliest tokens (default: all)"),
    ("--min-p", float, 0.0, "P", "only tokens at least P times as probable as the likeliest "
     "(default: 0, all)"),
    ("--repetition-penalty", float, 1.0, "R", "above 1 makes tokens that were there already less "
     "likely (default: 1; 1.1 is mild)"),
    ("--presence-penalty", float, 0.0, "X", "taken off the logits of tokens that the answer has "
     "(default: 0)"),
    ("--frequency-penalty", float, 0.0, "X", "the same, as many times as the answer has them "
     "(default: 0)"),
    ("--seed", int, 20261122, "SEED", "seed of the draws: the same one gives the same text"),
)  # fmt: skip


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sampler, and ``--stop``."""
    for option, kind, default, metavar, text in _NUMBERS:
        parser.add_argument(option, type=kind, default=default, metavar=metavar, help=text)
    parser.add_argument(
        "--logit-bias", nargs="+", default=[], metavar="ID:X",
        help="added to the logits of these token ids, such as 11:-100",
    )  # fmt: skip
    parser.add_argument(
        "--stop", nargs="+", default=[], metavar="TEXT",
        help="end before the first of these texts",
    )  # fmt: skip


def sampler_of(args: argparse.Namespace) -> Sampler:
    """The sampler that the arguments ask for.

    Raises
    ------
    LrcError
        A value is not allowed, or a bias is not written as an id and a number.
    """
    from lrc.run.sampler import Sampler

    return Sampler(
        args.temp, args.top_p, args.seed, args.top_k, args.min_p, args.repetition_penalty,
        args.presence_penalty, args.frequency_penalty, dict(map(_bias, args.logit_bias)),
    )  # fmt: skip


def _bias(given: str) -> tuple[int, float]:
    index, _, bias = given.partition(":")
    try:
        return int(index), float(bias)
    except ValueError as error:
        raise LrcError(
            f"--logit-bias {given!r} is no token id and number; write it as 11:-100"
        ) from error
