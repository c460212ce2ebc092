"""How far GGUF files are from their original, in the arithmetic of lrc and in llama.cpp's.

    python bench/gguf_quality.py DENSE TEXT FILE.gguf [FILE.gguf+ADAPTER.gguf ...] [--positions 48]

Decoded weights run through lrc's forward pass on float32 activations: KL(original || file) and the
ratio of perplexities over the second halves of windows, with 95 % intervals. With ``--positions``
and the wheel ``xllamacpp``, stock llama.cpp also says what it predicts after so many prefixes of
the windows: its probabilities of the ``--top`` likeliest tokens of the original, and the rest as
one, give a KL divergence that is a lower bound, close to the whole one. With ``--whole`` and the
package llama-cpp-python stock llama.cpp alone is asked, for all logits of the second halves.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CTX = 512


def decoded(file: str, dense: Path, folder: Path) -> Path:
    """A file, and the adapter behind its ``+`` if there is one, as a dense directory."""
    from lrc.convert.gguf import import_gguf

    base, _, adapter = file.partition("+")
    out = import_gguf(Path(base), folder / "model")
    if adapter:
        _add(Path(adapter), dense, out)
    return out


def _add(adapter: Path, dense: Path, out: Path) -> None:
    """Add L R to the weights in ``out``."""
    import gguf
    from safetensors.numpy import load_file, save_file

    from lrc.convert.gguf.written import GgufModel
    from lrc.models.opened import open_model

    rules = GgufModel.of(open_model(dense)[0], gguf)
    tensors = {t.name: np.asarray(t.data, np.float32) for t in gguf.GGUFReader(adapter).tensors}
    weights = load_file(out / "model.safetensors")
    for name, place in rules.names.items():
        if f"{place}.lora_a" not in tensors:
            continue
        left, order = tensors[f"{place}.lora_b"], rules.order(name)
        if order is not None:
            left = left[np.argsort(order)]
        whole = weights[name].astype(np.float32) + left @ tensors[f"{place}.lora_a"]
        weights[name] = whole.astype(np.float16)
    save_file(weights, out / "model.safetensors", {"format": "pt"})


def ours(file: str, dense: Path, windows: Any, threads: int) -> dict[str, Any]:
    """Figures by lrc's forward pass."""
    from lrc.measure.evaluate import perplexity
    from lrc.run.load import load

    with tempfile.TemporaryDirectory() as folder:
        model = load(decoded(file, dense, Path(folder))).model
        found = perplexity(
            model, windows, score="second-half", against=load(dense).model, activations="f32",
            threads=threads,
        )  # fmt: skip
    return {
        "kl": found.kl_divergence,
        "kl_interval": found.kl_interval,
        "ratio": found.perplexity_ratio,
        "ratio_interval": found.perplexity_ratio_interval,
        "top1": found.top1_agreement,
    }


def prefixes(windows: Any, count: int) -> list[tuple[list[int], int]]:
    """Prefixes of the second halves of windows, evenly spaced, and the tokens that follow."""
    half = windows.shape[1] // 2
    each = max(count // len(windows), 1)
    places = np.linspace(half, windows.shape[1] - 2, each).astype(int)
    found = [(w[: p + 1].tolist(), int(w[p + 1])) for w in windows for p in places]
    return found[:count]


def llama(file: str, asked: list[tuple[list[int], int]], top: int) -> list[dict[int, float]]:
    """Log-probabilities by token that llama.cpp has after each prefix, in a process of its own.

    Nothing of a prefix behind which it would go on with a part of a letter, which it holds back.
    """
    done = subprocess.run(
        [sys.executable, __file__, "--ask", file, str(top)],
        input=json.dumps([ids for ids, _ in asked]), check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    return [{int(k): v for k, v in each.items()} for each in found]


def _ask(file: str, top: int) -> None:
    import xllamacpp

    base, _, adapter = file.partition("+")
    params = xllamacpp.CommonParams()
    params.model.path = base
    if adapter:
        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = adapter, 1.0
        params.lora_adapters = [lora]
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.verbosity = 1024, 1, 0, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server, found = xllamacpp.Server(params), []
    for ids in json.load(sys.stdin):
        reply = server.handle_completions(
            {"prompt": ids, "max_tokens": 1, "n_predict": 1, "temperature": 0.0, "logprobs": top,
             "n_probs": top, "cache_prompt": True}
        )  # fmt: skip
        reply = json.loads(reply) if isinstance(reply, str) else reply
        told = reply["choices"][0]["logprobs"]
        first = told["content"][0]["top_logprobs"] if told else ()
        found.append({str(each["id"]): each["logprob"] for each in first})
    print(json.dumps(found))


def bounded_kl(original: dict[int, float], other: dict[int, float], top: int) -> float:
    """KL of the ``top`` likeliest tokens of the original, and of all others as one."""
    likely = sorted(original, key=original.__getitem__, reverse=True)[:top]
    p = np.exp([original[i] for i in likely])
    q = np.exp([other.get(i, -30.0) for i in likely])
    rest = [max(1 - float(part.sum()), 1e-9) for part in (p, q)]
    return float((p * np.log(p / q)).sum() + rest[0] * np.log(rest[0] / rest[1]))


def size_of(file: str) -> int:
    """Bytes of a file, and of the adapter behind its ``+``."""
    base, _, adapter = file.partition("+")
    return sum(Path(part).stat().st_size for part in (base, adapter) if part)


def _whole(given: argparse.Namespace) -> None:
    """Figures of all logits, the first file's the base of ratios."""
    from llama_library import divergences, summary

    from lrc.convert.gguf.exporter import export_gguf

    text = given.text.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        original = str(export_gguf(given.dense, Path(folder) / "m.gguf"))
        found = divergences(original, text, given.windows, given.files)
    for record in found:
        file = record["file"]
        told = {"file": file, "bytes": size_of(file), **summary(record, found[0])}
        print(json.dumps(told), flush=True)


def main() -> None:
    """Measure files side by side."""
    if sys.argv[1:2] == ["--ask"]:
        _ask(sys.argv[2], int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dense", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--positions", type=int, default=0)
    parser.add_argument("--top", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--whole", action="store_true")
    given = parser.parse_args()
    if given.whole:
        _whole(given)
        return
    from lrc.convert.gguf.exporter import export_gguf
    from lrc.measure.evaluate import text_windows
    from lrc.run.text import Tokenizer

    text = given.text.read_text("utf-8")
    windows = text_windows(Tokenizer.open(given.dense), text, CTX, given.windows)
    asked = prefixes(windows, given.positions)
    known: list[dict[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        if asked:  # all tokens of the original, since another file may have others on top
            known = llama(str(export_gguf(given.dense, Path(folder) / "m.gguf")), asked, given.top)
    for file in given.files:
        record = {
            "file": file,
            "bytes": size_of(file),
            **ours(file, given.dense, windows, given.threads),
        }
        if asked:
            there = llama(file, asked, 2 * given.top)
            both = [(p, q) for p, q in zip(known, there, strict=True) if p and q]
            kl = [bounded_kl(p, q, given.top) for p, q in both]
            same = [max(p, key=p.get) == max(q, key=q.get) for p, q in both]  # type: ignore[arg-type]
            record["llama_cpp"] = {
                "positions": len(kl), "kl": float(np.mean(kl)),
                "kl_stderr": float(np.std(kl) / np.sqrt(len(kl))), "top1": float(np.mean(same)),
            }  # fmt: skip
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
