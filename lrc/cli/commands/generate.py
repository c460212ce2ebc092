"""``lrc generate``."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lrc.base.progress import Advance
from lrc.base.resources import peak_rss_bytes
from lrc.cli.commands.base import (
    Console,
    SubParsers,
    add_activations,
    add_json,
    add_model,
    add_threads,
    add_verb,
    load_and_tell,
    within_context,
)
from lrc.cli.commands.prompt import read_prompt
from lrc.cli.commands.running_options import (
    adapters_of,
    add_running,
    add_schema,
    schema_of,
)
from lrc.cli.commands.sampling_options import add_sampling, sampler_of
from lrc.errors import LrcError

if TYPE_CHECKING:
    from lrc.run.chat import Message
    from lrc.run.schema import Constraint

#: New tokens at most, unless asked otherwise.
MAX_TOKENS = 128
#: Tokens whose time is not counted: kernels compile while the first ones are made.
_WARM_UP = 2


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "generate",
        run,
        "continue a text, or answer a question",
        more="The first run on a machine compiles kernels, which takes up to a minute.",
        example='lrc generate OUT --chat -p "Why is the sky blue?"',
    )
    add_model(parser, "model directory, dense or compressed")
    parser.add_argument(
        "-p", "--prompt", required=True, metavar="TEXT",
        help="text to go on from; - reads it from standard input",
    )  # fmt: skip
    parser.add_argument(
        "--chat", action="store_true", help="the prompt is a question; use the chat template"
    )
    parser.add_argument("--system", metavar="TEXT", help="with --chat: how the model is to answer")
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help=f"most new tokens (default: {MAX_TOKENS}, or what the model's context has room for)",
    )
    add_sampling(parser)
    add_activations(parser)
    add_running(parser)
    add_schema(parser)
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Generate; text appears as it is made, or one record at the end with ``--json``."""
    if args.max_tokens is not None and args.max_tokens < 1:
        raise LrcError(f"--max-tokens {args.max_tokens} must be at least 1")
    if args.system is not None and not args.chat:
        raise LrcError("--system is part of a conversation; add --chat")
    from lrc.run.generate import generate
    from lrc.run.stops import StopFilter, until_stop
    from lrc.run.text import text_pieces

    sampler, schema = sampler_of(args), schema_of(args)
    StopFilter(args.stop)  # refuses what makes no sense before anything is read
    loaded = load_and_tell(args.model, console, adapters_of(args.adapter))
    text = read_prompt(args.prompt)
    prompt = loaded.prompt_ids(conversation(text, args.system) if args.chat else text)
    available = loaded.model.context - len(prompt)
    most = within_context("--max-tokens", args.max_tokens, MAX_TOKENS, available, console)
    constraint = None if schema is None else loaded.grammars.grammar(schema).begin()
    tokens = generate(
        loaded.model,
        prompt,
        most,
        sampler,
        loaded.tokenizer.eos_ids,
        threads=args.threads,
        activations=args.activations,
        lookup=args.lookup,
        kv_bits=args.kv_bits,
        constraint=constraint,
        progress=console.progress,
    )
    if not args.json:
        for piece in until_stop(text_pieces(loaded.tokenizer, tokens), args.stop):
            console.stream(piece)
        console.line("")
        _tell_of_end(constraint, most, console)
        return
    with console.progress.bar("generating", most, "token") as advance:
        timed = _Timed(tokens, advance)
        answer = "".join(until_stop(text_pieces(loaded.tokenizer, timed), args.stop))
    _tell_of_end(constraint, most, console)
    console.json(
        {"max_tokens": most, "text": answer, **_record(len(prompt), timed.stamps), **_ways(args)}
    )


def conversation(question: str, system: str | None) -> list[Message]:
    """Messages of one question, after what the model is told first, if anything."""
    told = [] if system is None else [{"role": "system", "content": system}]
    return [*told, {"role": "user", "content": question}]


def _tell_of_end(constraint: Constraint | None, most: int, console: Console) -> None:
    """Say where JSON was cut off."""
    if constraint is not None and not constraint.is_whole:
        console.progress.note(
            f"the JSON is not whole after {most} tokens; raise --max-tokens, or bound its lengths"
        )


class _Timed:
    """Hands tokens on, and notes when each came; the first stamp is before all of them."""

    def __init__(self, tokens: Iterator[int], advance: Advance) -> None:
        self._tokens, self._advance = tokens, advance
        self.stamps = [time.perf_counter()]

    def __iter__(self) -> Iterator[int]:
        for token in self._tokens:
            self.stamps.append(time.perf_counter())
            self._advance()
            yield token


def _ways(args: argparse.Namespace) -> dict[str, Any]:
    """How the text was made."""
    from lrc.run.generate import read_as

    return {
        "activations": read_as(args.activations, args.lookup),
        "lookup": args.lookup,
        "kv_bits": args.kv_bits or 32,
        "adapters": args.adapter,
    }


def _record(prompt: int, stamps: list[float]) -> dict[str, Any]:
    steps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    steady = sorted(steps[_WARM_UP:])
    return {
        "prompt_tokens": prompt,
        "tokens": len(steps),
        "tokens_per_second": 1 / steady[len(steady) // 2] if steady else None,
        "first_token_seconds": steps[0] if steps else None,
        "peak_rss_bytes": peak_rss_bytes(),
    }
