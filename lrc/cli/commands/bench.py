"""``lrc bench``."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

from lrc.base.resources import peak_rss_bytes
from lrc.cli.commands.base import (
    Console,
    SubParsers,
    add_json,
    add_model,
    add_threads,
    add_verb,
    load_and_tell,
    within_context,
)
from lrc.cli.tables import human_size
from lrc.errors import LrcError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lrc.run.generate import Decoder

#: Tokens of the prompt and tokens to decode, unless asked otherwise.
PROMPT, TOKENS = 128, 64
#: Tokens before the decoded ones, and before the first one.
SHORT_PROMPT = 16
_SEED = 20261122


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "bench", run, "measure how fast a model runs here")
    add_model(parser, "model directory, dense or compressed")
    for name, usual, text in (
        ("--prompt", PROMPT, "tokens of the prompt"),
        ("--tokens", TOKENS, "tokens to decode"),
    ):
        parser.add_argument(
            name,
            type=int,
            metavar="N",
            help=f"{text} (default: {usual}, or what the model's context has room for)",
        )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="times the prompt runs")
    parser.add_argument(
        "--activations", choices=("i8", "f32"), default="i8", help="as in lrc generate"
    )
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Measure and show."""
    for name in ("prompt", "tokens", "repeats"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise LrcError(f"--{name} {getattr(args, name)} must be at least 1")
    record = measure(args, console)
    if args.json:
        console.json(record)
        return
    for name, unit in (("decode", "tokens/s"), ("prefill", "tokens/s")):
        low, high = record[f"{name}_tokens_per_s_spread"]
        value = record[f"{name}_tokens_per_s"]
        console.line(f"{name:12} {value:8.1f} {unit} ({low:.1f} to {high:.1f})")
    console.line(f"first token  {record['first_token_s']:8.2f} s after opening the model")
    if record["peak_rss_bytes"] is not None:
        console.line(f"peak memory  {human_size(record['peak_rss_bytes']):>8}")


def measure(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Time opening the model, whole prompts and single tokens."""
    import numpy as np

    from lrc.base.threads import resolve_threads
    from lrc.run.generate import Decoder

    threads = resolve_threads(args.threads)
    start = time.perf_counter()
    loaded = load_and_tell(args.model, console)
    model = loaded.model
    context = model.context
    prompt = within_context("--prompt", args.prompt, PROMPT, context, console)
    count = within_context("--tokens", args.tokens, TOKENS, context - SHORT_PROMPT, console)
    longest = max(prompt, SHORT_PROMPT + count)
    rng = np.random.default_rng(_SEED)
    ids = rng.integers(0, model.vocab_size, longest)

    def fresh(capacity: int) -> Decoder:
        return Decoder(model, capacity, threads, args.activations, console.progress)

    fresh(SHORT_PROMPT).advance(ids[:SHORT_PROMPT])
    first = time.perf_counter() - start
    prefill = [_seconds(fresh(prompt), ids[:prompt]) for _ in range(args.repeats)]
    decoder = fresh(SHORT_PROMPT + count)
    decoder.advance(ids[:SHORT_PROMPT])
    decoded = range(SHORT_PROMPT, SHORT_PROMPT + count)
    steps = [_seconds(decoder, ids[i : i + 1]) for i in decoded]
    return {
        "model": str(args.model),
        "kind": loaded.source.kind,
        "threads": threads,
        "activations": args.activations if loaded.source.kind == "packed" else "f32",
        "prompt": prompt,
        "tokens": count,
        **_rates("decode_tokens_per_s", steps, 1),
        **_rates("prefill_tokens_per_s", prefill, prompt),
        "first_token_s": first,
        "peak_rss_bytes": peak_rss_bytes(),
    }


def _seconds(decoder: Decoder, ids: NDArray[np.integer]) -> float:
    start = time.perf_counter()
    decoder.advance(ids)
    return time.perf_counter() - start


def _rates(name: str, seconds: list[float], tokens: int) -> dict[str, Any]:
    """The median rate, and the quartiles as its spread (extremes of few)."""
    rates = [tokens / s for s in seconds]
    spread = [min(rates), max(rates)]
    if len(rates) >= 8:
        low, _, high = statistics.quantiles(rates, n=4)
        spread = [low, high]
    return {name: statistics.median(rates), f"{name}_spread": spread}
