"""``lrc eval`` of a speech model."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from lrc.base.resources import peak_rss_bytes
from lrc.cli.commands.base import Console, load_and_tell
from lrc.cli.tables import ends, human_size, number, table
from lrc.errors import LrcError


def run_speech(args: argparse.Namespace, console: Console) -> None:
    """Transcribe the utterances of a list, and show the figures."""
    from lrc.measure.speech import evaluate_speech
    from lrc.measure.storage import storage
    from lrc.models.speech import SpeechModel
    from lrc.run.speech import Speech
    from lrc.run.utterances import read_utterances

    utterances = read_utterances(args.audio)[: args.windows or None]
    loaded = load_and_tell(args.model, console)
    models = []
    for one in (loaded, *([] if args.against is None else [load_and_tell(args.against, console)])):
        if not isinstance(one.model, SpeechModel):
            raise LrcError(f"{one.path} hears nothing; leave out --audio, or give a speech model")
        models.append(one.model)
    found = evaluate_speech(
        models[0],
        Speech.open(loaded.path, models[0], loaded.tokenizer),
        utterances,
        *models[1:],
        activations=args.activations,
        threads=args.threads,
        progress=console.progress,
    )
    record: dict[str, Any] = dataclasses.asdict(found)
    record |= {**storage(loaded.source), "peak_rss_bytes": peak_rss_bytes()}
    if args.json:
        console.json(record)
    else:
        console.line(speech_table(record))


def speech_table(record: dict[str, Any]) -> str:
    """One line a figure."""
    other = record["against_words"]
    rows = [
        ("word error rate", _rate(record["words"])),
        ("word error rate of the original", "-" if other is None else _rate(other)),
        ("perplexity", number(record["perplexity"]) + ends(record["perplexity_interval"])),
        ("perplexity of the original", number(record["against_perplexity"])),
        ("KL divergence", number(record["kl_divergence"]) + ends(record["kl_interval"])),
        ("top-1 agreement", number(record["top1_agreement"])),
        ("utterances", str(record["utterances"])),
        ("transcripts that did not end", str(record["incomplete"])),
        ("tokens scored", str(record["tokens"])),
        ("bits per weight, linear layers", number(record["bits_per_weight_linear"])),
        ("bits per weight, whole file", number(record["bits_per_weight_file"])),
        ("size", human_size(record["file_bytes"])),
    ]
    return table(("", "value"), rows)


def _rate(words: dict[str, Any]) -> str:
    counted = f"({words['errors']} of {words['words']} words)"
    return f"{number(words['rate'])}{ends(words['interval'])} {counted}"
