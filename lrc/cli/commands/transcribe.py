"""``lrc transcribe``."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from lrc.cli.commands.base import (
    Console,
    SubParsers,
    add_activations,
    add_json,
    add_model,
    add_threads,
    add_verb,
    load_and_tell,
)


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "transcribe",
        run,
        "write down what is said in an audio file",
        more="The likeliest token is taken each time. Audio that is longer than the model hears at "
        "once (30 seconds) is heard in windows: each begins where, as the model tells, the last "
        "whole stretch of the one before has ended. With a model that tells no times they are "
        "consecutive, and a word across a cut may be lost.",
        example="lrc transcribe MODEL AUDIO.wav --language en",
    )
    add_model(parser, "directory of a speech model, dense or compressed")
    parser.add_argument(
        "audio", type=Path, metavar="AUDIO.wav",
        help="WAV file of any rate: PCM or float samples, channels are mixed",
    )  # fmt: skip
    parser.add_argument(
        "--language",
        metavar="CODE",
        help="what is spoken, such as en (default: what the model's files say, or what it hears)",
    )
    parser.add_argument(
        "--task",
        choices=("transcribe", "translate"),
        help="write what was said, or its English translation (default: what the model's files "
        "say, or transcribe)",
    )
    parser.add_argument(
        "--times", action="store_true", help="tell when each stretch is said, in seconds"
    )
    add_activations(parser)
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Write the text of each window as it is made, or one record at the end with ``--json``."""
    segments = []
    found = load_and_tell(args.model, console).transcribe(
        args.audio,
        args.language,
        args.task,
        timed=True if args.times else None,
        threads=args.threads,
        activations=args.activations,
    )
    for segment in found:
        if not segment.complete:
            console.progress.note(
                f"the text from {segment.begin:.0f} to {segment.end:.0f} seconds did not end "
                "within the model's context"
            )
        if not args.json:
            span = f"[{segment.begin:.2f} - {segment.end:.2f}] " if args.times else ""
            console.line(span + segment.text)
        segments.append(dataclasses.asdict(segment))
    if args.json:
        text = " ".join(segment["text"] for segment in segments if segment["text"])
        console.json({"text": text, "segments": segments})
