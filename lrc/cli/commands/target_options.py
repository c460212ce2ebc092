"""``--for`` and ``--type``: compressions whose result is for another program."""

from __future__ import annotations

import argparse

from lrc import codebooks
from lrc.cli.commands.given_spec import spec_from_options
from lrc.errors import SpecError
from lrc.spec import CompressSpec

#: What packed integers have unless told.
_BITS = 4


def for_target(args: argparse.Namespace) -> CompressSpec:
    """The parameters that the options ask for, for the program that they name.

    Raises
    ------
    SpecError
        The options contradict each other.
    """
    if args.target is None:
        raise SpecError("--type needs --for gguf")
    for option in ("target_bpw", "target_size", "effort"):
        if getattr(args, option) is not None:
            raise SpecError(
                f"--for {args.target} and --{option.replace('_', '-')} contradict each other: "
                "give --bits instead"
            )
    if args.rotation not in (None, "none"):
        raise SpecError(f"--for {args.target} has no rotation; leave --rotation out")
    return _for_gguf(args) if args.target == "gguf" else _for_integers(args)


def _for_gguf(args: argparse.Namespace) -> CompressSpec:
    if args.gguf_type is not None:
        for option in ("bits", "codebook"):
            if getattr(args, option) is not None:
                raise SpecError(f"--type and --{option} contradict each other: give one of them")
    from lrc.convert.gguf.target_types import for_gguf

    if args.bits is None and args.codebook is None and args.config is None:
        args = _with(args, codebook=codebooks.GGUF)
    return for_gguf(args.model, spec_from_options(args), args.gguf_type, rank=args.rank is not None)


def _for_integers(args: argparse.Namespace) -> CompressSpec:
    if args.gguf_type is not None:
        raise SpecError(f"--type is one of --for gguf; give --bits beside --for {args.target}")
    if args.codebook is not None:
        raise SpecError(f"--for {args.target} decides the codebook; leave --codebook out")
    from lrc.convert.integer_target import for_integers

    if args.bits is None and args.config is None:
        args = _with(args, bits=_BITS)
    spec = spec_from_options(_with(args, group_size=None))
    return for_integers(
        args.model, spec, args.target, group=args.group_size or 0, rank=args.rank is not None
    )


def _with(args: argparse.Namespace, **changes: object) -> argparse.Namespace:
    return argparse.Namespace(**(vars(args) | changes))
