"""Options of generation on one model: texts that are read ahead, and caches of few bits.

    python bench/generation.py MODEL [--cases lookup cache] [--tokens 128] [--lookups 8 32 64]
                               [--context 2048] [--text README.md] [--rounds 3] [--threads 1]
                               [--out FILE]

All in one process, in turn: A, B, C, A, B, C; the median of processor seconds is the figure. Before
that results are compared. Texts that are read ahead have to be those of 15-bit activations one by
one, or the record says at which token they part; one prompt asks for a text once more, one for a
text of its own. Caches of few bits: what the predictions of a text diverge from those on keys and
values in float32, and the speed of a token behind a long context.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import harness  # first: it pins the threads

#: What is to be taken over.
PASSAGE = (
    "The lighthouse stood on a low hill above the harbour. Every evening the keeper climbed the "
    "stairs, cleaned the glass and lit the lamp. Ships from the north knew its light by two short "
    "flashes and a long one. In winter, when storms came in from the sea, the keeper slept in the "
    "lamp room. He wrote the hour of every ship that passed into a grey book, and when a book was "
    "full, it went to a shelf in the kitchen, beside those of the keepers before him."
)
PROMPTS = {
    "rewriting": f"Copy the following text word by word, without any change.\n\n{PASSAGE}",
    "free": "Write a letter to a friend about a walk in the mountains.",
}


def made(loaded: Any, prompt: str, given: argparse.Namespace, **options: Any) -> dict[str, Any]:
    """A greedy text, and the seconds of each token behind the first."""
    import lrc

    ids = loaded.prompt_ids([{"role": "user", "content": prompt}])
    tokens = lrc.generate(loaded.model, ids, given.tokens, threads=given.threads, **options)
    found = [next(tokens)]
    wall, cpu = time.perf_counter(), time.process_time()
    found += tokens
    count = len(found) - 1
    return {
        "tokens": found,
        "seconds": (time.perf_counter() - wall) / count,
        "cpu": (time.process_time() - cpu) / count,
    }


def common(a: list[int], b: list[int]) -> int:
    """How many tokens two texts begin with alike."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    return sum(1 for _ in pairs)


def measured(loaded: Any, name: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Records of one prompt: each way to make its text."""
    ways: dict[str, dict[str, Any]] = {"i8": {"activations": "i8"}, "i15": {"activations": "i15"}}
    ways |= {f"lookup {n}": {"lookup": n} for n in given.lookups}
    first = {way: made(loaded, PROMPTS[name], given, **options) for way, options in ways.items()}
    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(given.rounds):
        for way, options in ways.items():
            rounds[way].append(made(loaded, PROMPTS[name], given, **options))
    plain = statistics.median(one["cpu"] for one in rounds["i8"])
    return [
        {
            "case": f"{name}, {way}",
            "tokens": len(first[way]["tokens"]),
            "as_i15": common(first[way]["tokens"], first["i15"]["tokens"]),
            "as_i8": common(first[way]["tokens"], first["i8"]["tokens"]),
            "cpu_seconds_a_token": statistics.median(one["cpu"] for one in rounds[way]),
            "seconds_a_token": statistics.median(one["seconds"] for one in rounds[way]),
            "times_as_fast_as_i8": plain / statistics.median(one["cpu"] for one in rounds[way]),
        }
        for way in ways
    ]


def log_probabilities(logits: Any) -> Any:
    """Log probabilities (T, vocab) float64."""
    import numpy as np

    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


def divergence(loaded: Any, ids: Any, bits: int, given: argparse.Namespace) -> float:
    """KL from predictions on float32 keys and values, in nats a token, after some context."""
    import numpy as np

    from lrc.run.generate import Decoder

    ways = [
        Decoder(loaded.model, len(ids), given.threads, kv_bits=width) for width in (0, bits)
    ]  # fmt: skip
    total, start = 0.0, len(ids) // 4
    for decoder in ways:
        decoder.advance(ids[:start])
    for at in range(start, len(ids), 32):
        p, q = (log_probabilities(way.advance_each(ids[at : at + 32])) for way in ways)
        total += float((np.exp(p) * (p - q)).sum())
    return total / (len(ids) - start)


def caches(loaded: Any, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Records of keys and values in float32, 8 and 4 bits."""
    import numpy as np

    from lrc.run.generate import Decoder

    text = loaded.tokenizer.encode(given.text.read_text(encoding="utf-8")).astype(np.int64)
    ids = text[: given.context]
    ways = {bits: Decoder(loaded.model, len(ids) + 64, given.threads, kv_bits=bits)
            for bits in (0, 8, 4)}  # fmt: skip
    seconds: dict[int, list[float]] = {bits: [] for bits in ways}
    prompts = {}
    for bits, decoder in ways.items():
        begun = time.process_time()
        decoder.advance(ids)
        prompts[bits] = time.process_time() - begun
        decoder.advance(ids[:1])
        decoder.cache.rewind(len(ids))
    for _ in range(given.rounds):
        for bits, decoder in ways.items():
            for i in range(8):
                begun = time.process_time()
                decoder.advance(ids[i : i + 1])
                seconds[bits].append(time.process_time() - begun)
            decoder.cache.rewind(len(ids))
    return [
        {
            "case": f"cache of {bits or 32} bits",
            "context": len(ids),
            "bytes_a_token": decoder.cache.nbytes / decoder.cache.max_length,
            "kl": divergence(loaded, ids, bits, given) if bits else 0.0,
            "cpu_seconds_a_token": statistics.median(seconds[bits]),
            "cpu_seconds_of_the_prompt": prompts[bits],
        }
        for bits, decoder in ways.items()
    ]


def main(argv: list[str] | None = None) -> int:
    """Measure, and write a record a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--cases", nargs="+", default=["lookup", "cache"])
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--text", type=Path, default=Path("README.md"))
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--lookups", type=int, nargs="+", default=[8, 32, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    import lrc

    loaded = lrc.load(given.model)
    records = [harness.environment()]
    for name in PROMPTS if "lookup" in given.cases else ():
        records += measured(loaded, name, given)
    if "cache" in given.cases:
        records += caches(loaded, given)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    sys.stdout.write(lines)
    if given.out is not None:
        given.out.write_text(lines, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
