"""llama.cpp as a library, by the package llama-cpp-python: quantization and all logits.

    python bench/llama_library.py quantize F16.gguf OUT.gguf Q4_K_M [IMATRIX.gguf]

writes what ``llama-quantize --imatrix`` writes, by the function that it calls; `divergences` is
what ``gguf_quality.py --whole`` shows: KL(original || file) over the second halves of windows of
512, of all logits. ``LLAMA_CPP_LIB_PATH`` may name a folder with another build of the library.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = str(Path(__file__).resolve().parent)
CTX = 512
F32 = NDArray[np.float32]


def library() -> Any:
    """The bindings; a script beside this one has the package's name."""
    kept, sys.path = sys.path, [p for p in sys.path if str(Path(p).resolve()) != HERE]
    try:
        from llama_cpp import llama_cpp
    finally:
        sys.path = kept
    llama_cpp.llama_log_set(_QUIET.setdefault(0, llama_cpp.llama_log_callback(_ignored)), None)
    llama_cpp.llama_backend_init()
    return llama_cpp


_QUIET: dict[int, Any] = {}


def _ignored(level: int, text: bytes, data: object) -> None:
    pass


class Opened:
    """A file, and the adapter behind its ``+`` if there is one."""

    def __init__(self, low: Any, file: str) -> None:
        base, _, adapter = file.partition("+")
        self.low = low
        how = low.llama_model_default_params()
        how.use_extra_bufts = False  # AMX, which may be announced and yet be missing
        self.model = low.llama_model_load_from_file(base.encode(), how)
        if not self.model:
            raise SystemExit(f"{base}: llama.cpp does not open it")
        params = low.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = CTX
        params.n_threads = params.n_threads_batch = 1
        self.context = low.llama_init_from_model(self.model, params)
        self.vocab = low.llama_model_get_vocab(self.model)
        self.size = low.llama_vocab_n_tokens(self.vocab)
        self.batch = low.llama_batch_init(CTX, 0, 1)
        if adapter:
            lora = low.llama_adapter_lora_init(self.model, adapter.encode())
            given = (low.llama_adapter_lora_p_ctypes * 1)(lora), (ctypes.c_float * 1)(1.0)
            if not lora or low.llama_set_adapters_lora(self.context, given[0], 1, given[1]):
                raise SystemExit(f"{adapter}: llama.cpp does not take it")

    def tokens(self, text: str) -> NDArray[np.int32]:
        """Token ids of a text."""
        raw = text.encode()
        found = (ctypes.c_int32 * (len(raw) + 8))()
        count = self.low.llama_tokenize(self.vocab, raw, len(raw), found, len(found), True, False)
        return np.array(found[:count], np.int32)

    def log_probabilities(self, ids: NDArray[np.int32]) -> F32:
        """Those (T / 2, vocab) of the tokens of the second half of a window."""
        low, batch, half = self.low, self.batch, len(ids) // 2 - 1
        low.llama_memory_clear(low.llama_get_memory(self.context), True)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids.tolist()):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = int(half <= i < len(ids) - 1)
        if low.llama_decode(self.context, batch):
            raise SystemExit("llama.cpp does not take the window")
        shape = len(ids) - 1 - half, self.size
        found = np.ctypeslib.as_array(low.llama_get_logits(self.context), shape).copy()
        found -= found.max(axis=1, keepdims=True)
        found -= np.log(np.exp(found).sum(axis=1, dtype=np.float64, keepdims=True))
        return found


def divergences(original: str, text: str, count: int, files: list[str]) -> list[dict[str, Any]]:
    """Figures of files; ``kl`` and ``nll`` of each are by window."""
    low = library()
    known, others = Opened(low, original), [Opened(low, file) for file in files]
    ids = known.tokens(text[: 16 * CTX * count])[: CTX * count].reshape(count, CTX)
    found: list[dict[str, Any]] = [{"file": f, "kl": [], "nll": [], "top1": []} for f in files]
    base = []
    for window in ids:
        p, after = known.log_probabilities(window), window[CTX // 2 :]
        chances, best = np.exp(p), p.argmax(axis=1)
        base.append(-float(p[np.arange(len(p)), after].mean()))
        for other, record in zip(others, found, strict=True):
            q = other.log_probabilities(window)
            divergence = np.einsum("ij,ij->", chances, p - q, dtype=np.float64)
            record["kl"].append(float(divergence) / len(p))
            record["nll"].append(-float(q[np.arange(len(q)), after].mean()))
            record["top1"].append(float((q.argmax(axis=1) == best).mean()))
    for record in found:
        record["nll_original"] = base
    return found


def summary(record: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """Means with 95 % intervals of a bootstrap over windows, paired where files are compared."""
    kl, other = np.array(record["kl"]), np.array(first["kl"])
    draws = np.random.default_rng(0).integers(0, len(kl), (4000, len(kl)))
    means, ratios = kl[draws].mean(axis=1), kl[draws].mean(axis=1) / other[draws].mean(axis=1)
    return {
        "windows": len(kl),
        "kl": float(kl.mean()),
        "kl_interval": np.quantile(means, (0.025, 0.975)).tolist(),
        "kl_over_first": float(kl.mean() / other.mean()),
        "kl_over_first_interval": np.quantile(ratios, (0.025, 0.975)).tolist(),
        "ratio": float(np.exp(np.mean(record["nll"]) - np.mean(record["nll_original"]))),
        "top1": float(np.mean(record["top1"])),
    }


def quantize(source: str, out: str, kind: str, imatrix: str | None) -> None:
    """Write ``out`` of a file in f16."""
    import gguf

    low = library()
    params = low.llama_model_quantize_default_params()
    params.ftype, params.nthread = int(gguf.LlamaFileType[f"MOSTLY_{kind}"]), 1
    if imatrix:
        means = _means(imatrix)
        entries = (low.llama_model_imatrix_data * (len(means) + 1))()
        for entry, (name, values) in zip(entries, means.items(), strict=False):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = entries
    if low.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)):
        raise SystemExit(f"{out}: llama.cpp did not write it")


def _means(imatrix: str) -> dict[str, F32]:
    """Mean squares of inputs, by tensor."""
    import gguf

    arrays = {t.name: np.array(t.data) for t in gguf.GGUFReader(imatrix).tensors}
    return {
        name: np.ascontiguousarray(sums / arrays[f"{name}.counts"], np.float32).reshape(-1)
        for name, sums in ((n.removesuffix(".in_sum2"), a) for n, a in arrays.items())
        if f"{name}.in_sum2" in arrays
    }


if __name__ == "__main__":
    if sys.argv[1:2] != ["quantize"] or len(sys.argv) not in (5, 6):
        raise SystemExit(__doc__)
    quantize(*sys.argv[2:5], sys.argv[5] if len(sys.argv) == 6 else None)
