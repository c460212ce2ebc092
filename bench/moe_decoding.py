"""How much of a mixture's experts a token reads, in pages of the mapped files.

    python bench/moe_decoding.py [--scale 4] [--blocks 4] [--tokens 16] [--threads 1]

A compressed model of Mixtral 8x7B's shape, its widths divided by ``--scale``, with random 2-bit
codes. Before each token all pages of the weights are let go; after it, those of each matrix that
the process has touched are counted in /proc/self/pagemap (Linux). Neighbours come with a page, so
the count is an upper bound. One JSON line: bytes of experts read a token, of all that there are,
the share that routing alone would give, and seconds a token with everything in memory.
"""

from __future__ import annotations

import argparse
import json
import mmap
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness  # first: it pins the threads
import numpy as np
from blocks_7b import matrix
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from tiny import tokenizer

import lrc
from lrc.formats.pages import release_pages
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.models import declared
from lrc.models.tensors import Matrix, Table
from lrc.parts.packed import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    matrix_record,
    matrix_tensors,
)
from lrc.run.generate import Decoder

_PRESENT = np.uint64(1 << 63)


def config(scale: int, blocks: int) -> dict[str, Any]:
    """Mixtral 8x7B with widths divided by ``scale``."""
    return {
        "model_type": "mixtral", "architectures": ["MixtralForCausalLM"],
        "hidden_size": 4096 // scale, "intermediate_size": 14336 // scale,
        "num_hidden_layers": blocks, "num_attention_heads": 32 // scale,
        "num_key_value_heads": max(8 // scale, 1), "head_dim": 128, "num_local_experts": 8,
        "num_experts_per_tok": 2, "vocab_size": 258, "bos_token_id": 256, "eos_token_id": 257,
        "max_position_embeddings": 1024, "rope_theta": 1e6, "tie_word_embeddings": False,
    }  # fmt: skip


def write(folder: Path, given: dict[str, Any]) -> Path:
    """A compressed model: random codes, and other tensors at random."""
    folder.mkdir()
    tensors, records = declared(given), dict[str, Any]()
    rng = np.random.default_rng(3)
    shell: dict[str, NDArray[Any]] = {}
    for name, tensor in tensors.read.items():
        if not isinstance(tensor.role, Matrix):
            plain = rng.standard_normal(tensor.shape, np.float32) / tensor.shape[-1] ** 0.5
            shell[name] = plain.astype(np.float16) if isinstance(tensor.role, Table) else plain
    files = {"shell.safetensors": shell}
    for seed, (linear, role) in enumerate(tensors.matrices.items()):
        name = f"{linear}.weight"
        m, n = tensors.shape(name)
        made = matrix((m, n), seed)
        records[name] = {**matrix_record(made), "role": "matrix"}
        file = files.setdefault(f"block-{role.block:05d}.safetensors", {})
        file |= matrix_tensors(name, made)
    for name, arrays in files.items():
        write_safetensors(folder / name, arrays, {"format": FORMAT})
    manifest = {
        "format": FORMAT, "version": FORMAT_VERSION, "files": sorted(files), "matrices": records,
        "source": {"parameters": 0}, "spec": lrc.CompressSpec().to_dict(),
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / "config.json").write_text(json.dumps(given))
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def touched(array: NDArray[Any]) -> int:
    """Bytes of an array's pages that this process has mapped in."""
    page = mmap.PAGESIZE
    first, last = array.ctypes.data // page, -(-(array.ctypes.data + array.nbytes) // page)
    with open("/proc/self/pagemap", "rb") as entries:
        entries.seek(8 * first)
        found = np.frombuffer(entries.read(8 * (last - first)), np.uint64)
    return int(np.count_nonzero(found & _PRESENT)) * page


def expert_arrays(model: Any) -> Iterator[NDArray[Any]]:
    """Codes of every expert's matrices, where they lie in the files."""
    for block in model.blocks:
        for key, linear in block.linears.items():
            if ".experts." in key:
                for part in linear.matrix.parts:
                    yield from part.planes


def measure(folder: Path, tokens: int, threads: int) -> dict[str, Any]:
    """Pages that single tokens touch, and how long one takes."""
    model = lrc.load(folder).model
    ids = np.random.default_rng(4).integers(0, 256, 2 * tokens)
    decoder = Decoder(model, 2 * tokens, threads)
    decoder.advance(ids[:1])
    arrays = list(expert_arrays(model))
    files = [file for file in model.source._files.values() if isinstance(file, SafetensorsFile)]
    read = []
    for token in ids[1:tokens]:
        release_pages(files)
        assert sum(map(touched, arrays)) == 0
        decoder.advance(np.array([token]))
        read.append(sum(map(touched, arrays)))
    times = []
    for token in ids[tokens:-1]:
        start = time.perf_counter()
        decoder.advance(np.array([token]))
        times.append(time.perf_counter() - start)
    total = sum(array.nbytes for array in arrays)
    return {
        "case": "experts of a mixture, 2 bits",
        "runs_on": model.engines().runs_on,
        "expert_bytes": total,
        "expert_bytes_per_token": statistics.mean(read),
        "share": statistics.mean(read) / total,
        "most": max(read) / total,
        "share_routed": model.config.experts.top / model.config.experts.count,
        "seconds_per_token": statistics.median(times),
    }


def main() -> None:
    """Write a model, measure, print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = write(Path(folder) / "model", config(given.scale, given.blocks))
        record = measure(model, given.tokens, given.threads)
    print(json.dumps(harness.environment()))
    print(json.dumps(record))


if __name__ == "__main__":
    main()
