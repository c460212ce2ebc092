"""``lrc eval``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
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
from lrc.cli.commands.evaluate_speech import run_speech
from lrc.cli.sample_text import SAMPLE_NAME, given_text
from lrc.cli.tables import ends, human_size, json_ready, number, table, with_error
from lrc.errors import LrcError

if TYPE_CHECKING:
    from lrc.measure.samples import Sample
    from lrc.run.load import LoadedModel

#: What an evaluation tells, in the order of the table.
FIGURES = (
    "perplexity",
    "perplexity_stderr",
    "kl_divergence",
    "kl_stderr",
    "top1_agreement",
    "tokens",
    "perplexity_ratio",
    "perplexity_ratio_interval",
    "kl_interval",
    "activations",
)
#: Tokens of a window where the model's context allows it.
CTX = 512


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "eval", run, "measure perplexity and distance to the original")
    add_model(parser, "model directory, dense or compressed")
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="text to predict (default: Python's help topics)"
    )
    parser.add_argument(
        "--audio",
        type=Path,
        metavar="LIST.jsonl",
        help='utterances to transcribe with a speech model, {"audio": PATH, "text": "..."} a line: '
        "gives the word error rate (lower case, no punctuation) beside the other figures",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="ORIGINAL",
        help="model to compare predictions with: adds the ratio of perplexities, KL divergence and "
        "top-1 agreement, with 95 %% intervals by a paired bootstrap over windows",
    )
    parser.add_argument(
        "--ctx",
        type=int,
        metavar="N",
        help=f"tokens of a window (default: {CTX}, or the model's context where it is shorter)",
    )
    parser.add_argument(
        "--score",
        choices=("second-half", "all"),
        default="second-half",
        help="which tokens of a window count (default: second-half)",
    )
    parser.add_argument(
        "--windows",
        type=int,
        default=40,
        metavar="N",
        help="how many windows or utterances from the start, 0 for all (default: 40)",
    )
    parser.add_argument(
        "--activations",
        choices=("i8", "f32"),
        default="i8",
        help="what a compressed model multiplies with: integers, token by token as in lrc "
        "generate, or exact floats, whole windows at once (default: i8; dense models: f32)",
    )
    parser.add_argument(
        "--size-of", type=Path, nargs="+", metavar="FILE",
        help="files whose bytes count in place of those of MODEL, as the GGUF file that MODEL was "
        "imported from: with --json, for lrc report --compare",
    )  # fmt: skip
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the figures in the directory of the compressed model, for lrc report and lrc "
        "publish; with --against also what both models say to three prompts",
    )
    parser.add_argument(
        "--samples", type=int, metavar="N",
        help="with --keep and --against: most tokens of these answers, 0 for none (default: 48)",
    )  # fmt: skip
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Evaluate and show the figures."""
    if args.ctx is not None and args.ctx < 2:
        raise LrcError(f"--ctx {args.ctx} is too small; use at least 2 tokens")
    if args.windows < 0:
        raise LrcError(f"--windows {args.windows} must be 0 (all) or positive")
    if args.samples is not None and (args.samples < 0 or not args.keep or args.against is None):
        raise LrcError("--samples N is 0 or positive, and goes with --keep and --against")
    if args.audio is not None:
        if args.keep or args.size_of:
            raise LrcError("--keep and --size-of are of evaluations on text, not of --audio")
        run_speech(args, console)
        return
    from lrc.measure.evaluate import perplexity, text_windows
    from lrc.measure.storage import storage
    from lrc.parts.packed import PackedCheckpoint

    text = given_text(args.text)
    loaded = load_and_tell(args.model, console)
    if args.keep and not isinstance(loaded.source, PackedCheckpoint):
        raise LrcError(
            f"--keep: {args.model} is not compressed; its figures are kept nowhere, but --json "
            "writes what lrc report --compare reads"
        )
    if args.keep and args.size_of:
        raise LrcError("--keep and --size-of contradict each other: give one of them")
    against = None if args.against is None else load_and_tell(args.against, console)
    contexts = [m.model.context for m in (loaded, against) if m is not None]
    ctx = within_context("--ctx", args.ctx, CTX, min(contexts), console)
    windows = text_windows(loaded.tokenizer, text, ctx, args.windows or None)
    evaluation = perplexity(
        loaded.model,
        windows,
        score=args.score,
        against=None if against is None else against.model,
        activations=args.activations,
        progress=console.progress,
        threads=args.threads,
    )
    record: dict[str, Any] = {name: getattr(evaluation, name) for name in FIGURES}
    record |= {**storage(loaded.source), "ctx": ctx, "peak_rss_bytes": peak_rss_bytes()}
    record |= _conditions(args, text) | {"windows": len(windows)}
    if args.size_of:
        record |= _size_of(args.size_of, record)
    if args.keep and isinstance(loaded.source, PackedCheckpoint):
        from lrc.measure.quality import KeptEvaluation, keep, model_digest

        digest = model_digest(loaded.source)
        found = KeptEvaluation.of(json_ready(record), model=digest)
        answers = [] if against is None else _answers(args, console, loaded, against, digest)
        console.progress.note(f"kept in {keep(loaded.source, found, answers)}")
    if args.json:
        console.json(record)
    else:
        console.line(evaluation_table(record))


def _answers(
    args: argparse.Namespace,
    console: Console,
    loaded: LoadedModel,
    against: LoadedModel,
    digest: str,
) -> list[Sample]:
    """What both models say, unless it was asked for no tokens."""
    from lrc.formats.hub import model_name
    from lrc.measure.samples import TOKENS, samples

    tokens = TOKENS if args.samples is None else args.samples
    if tokens == 0:
        return []
    return list(
        samples(
            loaded, against, model=digest, against=model_name(args.against), tokens=tokens,
            threads=args.threads, progress=console.progress,
        )
    )  # fmt: skip


def _conditions(args: argparse.Namespace, text: str) -> dict[str, Any]:
    """What the figures are of, beside what they say themselves; names without folders."""
    from lrc.formats.hub import model_name
    from lrc.measure.quality import text_digest

    return {
        "name": args.size_of[0].stem if args.size_of else model_name(args.model),
        "text": SAMPLE_NAME if args.text is None else args.text.name,
        "text_digest": text_digest(text),
        "score": args.score,
        "against": "" if args.against is None else model_name(args.against),
    }


def _size_of(files: Sequence[Path], record: dict[str, Any]) -> dict[str, Any]:
    """Bytes of other files than the model's; what linear layers take of them is not known."""
    count = sum(file.stat().st_size for file in files)
    bits = record["bits_per_weight_file"] * count / record["file_bytes"]
    return {"file_bytes": count, "bits_per_weight_file": bits, "bits_per_weight_linear": None}


def evaluation_table(record: dict[str, Any]) -> str:
    """One line a figure."""
    rows = [
        ("perplexity", with_error(record["perplexity"], record["perplexity_stderr"])),
        (
            "perplexity / original's",
            number(record["perplexity_ratio"]) + ends(record["perplexity_ratio_interval"]),
        ),
        (
            "KL divergence",
            with_error(record["kl_divergence"], record["kl_stderr"]) + ends(record["kl_interval"]),
        ),
        ("top-1 agreement", number(record["top1_agreement"])),
        ("tokens scored", str(record["tokens"])),
        ("tokens of a window", str(record["ctx"])),
        ("activations", record["activations"]),
        ("bits per weight, linear layers", number(record["bits_per_weight_linear"])),
        ("bits per weight, whole file", number(record["bits_per_weight_file"])),
        ("size", human_size(record["file_bytes"])),
    ]
    return table(("", "value"), rows)
