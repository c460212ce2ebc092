"""``lrc generate``."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lrc.commands.base import (
    Console,
    SubParsers,
    add_json,
    add_model,
    add_threads,
    add_verb,
    load_and_tell,
)
from lrc.errors import LrcError
from lrc.resources import peak_rss_bytes

if TYPE_CHECKING:
    from lrc.tokens import Tokenizer

#: Tokens whose time is not counted: kernels compile while the first ones are made.
_WARM_UP = 2


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "generate", run, "continue a text, or answer a question")
    add_model(parser, "model directory, dense or compressed")
    parser.add_argument("-p", "--prompt", required=True, metavar="TEXT", help="text to go on from")
    parser.add_argument(
        "--chat", action="store_true", help="the prompt is a question; use the chat template"
    )
    parser.add_argument("--system", metavar="TEXT", help="with --chat: how the model is to answer")
    parser.add_argument("--max-tokens", type=int, default=128, metavar="N", help="most new tokens")
    parser.add_argument("--temp", type=float, default=0.7, help="0 takes the likeliest token")
    parser.add_argument("--top-p", type=float, default=0.95, help="nucleus of the distribution")
    parser.add_argument("--seed", type=int, default=20261122, help="seed of the sampling")
    parser.add_argument(
        "--activations",
        choices=("i8", "f32"),
        default="i8",
        help="what a compressed model multiplies with: integers, or exact and slower floats",
    )
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Generate; text appears as it is made, or one record at the end with ``--json``."""
    if args.max_tokens < 1:
        raise LrcError(f"--max-tokens {args.max_tokens} must be at least 1")
    if args.system is not None and not args.chat:
        raise LrcError("--system is part of a conversation; add --chat")
    from lrc.generate import generate
    from lrc.sampler import Sampler

    sampler = Sampler(temperature=args.temp, top_p=args.top_p, seed=args.seed)
    loaded = load_and_tell(args.model, console)
    prompt = prompt_ids(loaded.tokenizer, args.prompt, chat=args.chat, system=args.system)
    tokens = generate(
        loaded.model,
        prompt,
        args.max_tokens,
        sampler,
        loaded.tokenizer.eos_ids,
        threads=args.threads,
        activations=args.activations,
        progress=console.progress,
    )
    if not args.json:
        for piece in text_pieces(loaded.tokenizer, tokens):
            console.stream(piece)
        console.line("")
        return
    ids, stamps = [], [time.perf_counter()]
    with console.progress.bar("generating", args.max_tokens, "token") as advance:
        for token in tokens:
            ids.append(token)
            stamps.append(time.perf_counter())
            advance()
    console.json(_record(loaded.tokenizer, len(prompt), ids, stamps))


def prompt_ids(
    tokenizer: Tokenizer, prompt: str, *, chat: bool, system: str | None = None
) -> list[int]:
    """Token ids of a prompt, or of a conversation that it begins after ``system``.

    Raises
    ------
    LrcError
        The prompt is empty and the model has no BOS token.
    """
    if chat:
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        return [int(i) for i in tokenizer.apply_chat(messages)]
    ids = [int(i) for i in tokenizer.encode_prompt(prompt)]
    if not ids:
        raise LrcError("the prompt is empty and this model has no BOS token; give some text")
    return ids


def text_pieces(tokenizer: Tokenizer, ids: Iterator[int]) -> Iterator[str]:
    """Text as tokens come; the pieces joined are the whole text."""
    from lrc.tokens import TextStream

    stream = TextStream(tokenizer)
    for token in ids:
        yield stream.push(token)
    yield stream.flush()


def _record(
    tokenizer: Tokenizer, prompt: int, ids: list[int], stamps: list[float]
) -> dict[str, Any]:
    steps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    steady = sorted(steps[_WARM_UP:])
    return {
        "text": tokenizer.decode([i for i in ids if i not in tokenizer.eos_ids]),
        "prompt_tokens": prompt,
        "tokens": len(ids),
        "tokens_per_second": 1 / steady[len(steady) // 2] if steady else None,
        "first_token_seconds": steps[0] if steps else None,
        "peak_rss_bytes": peak_rss_bytes(),
    }
