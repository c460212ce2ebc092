"""The whole line from Python: write a tiny random model, compress it, load it, run it.

    python examples/use_as_a_library.py

A random model says nothing sensible; with a real one only the path changes.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import lrc
from lrc.spec import CalibrationSpec, CompressSpec, DecomposeSpec, LowRankSpec

HIDDEN, INNER, LAYERS, HEADS, VOCABULARY = 64, 160, 2, 4, 257
CONFIG = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 256,
    "eos_token_id": 256,
}


def write_random_model(folder: Path) -> Path:
    """Write config, tokenizer (a token a byte) and random weights as Hugging Face does."""
    folder.mkdir()
    rng = np.random.default_rng(4441)
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in {
            "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,),
            **{f"self_attn.{x}_proj": (HIDDEN, HIDDEN) for x in "qkvo"},
            "mlp.gate_proj": (INNER, HIDDEN),
            "mlp.up_proj": (INNER, HIDDEN),
            "mlp.down_proj": (HIDDEN, INNER),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    tensors = {
        name: np.ones(shape, np.float32)
        if len(shape) == 1
        else (rng.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def main() -> None:
    """Compress with text that the model writes itself, then measure and generate."""
    with tempfile.TemporaryDirectory() as temporary:
        source = write_random_model(Path(temporary) / "random-model")
        out = Path(temporary) / "compressed"
        spec = CompressSpec(
            decompose=DecomposeSpec(low_rank=LowRankSpec(rank=4)),
            calibration=CalibrationSpec(nsamples=8, seqlen=64),
        )
        report = lrc.compress(source, out, spec)
        print(f"{report.bits_per_weight_linear:.2f} bits per weight in the linear layers")
        for name, record in list(report.matrices.items())[1:5]:
            print(f"  {name}: relative error {record['relative_error']:.3f}")

        original, compressed = lrc.load(source), lrc.load(out)
        windows = lrc.text_windows(compressed.tokenizer, "To be, or not to be. " * 40, ctx=64)
        found = lrc.perplexity(compressed.model, windows, against=original.model)
        print(f"perplexity {found.perplexity:.1f}, KL divergence {found.kl_divergence:.4f}")

        # A text to go on from; messages, [{"role": "user", "content": ...}], where the model has a
        # chat template. It stops where the model ends the text, here by chance if at all.
        sampler = lrc.Sampler(temperature=0.8, top_p=0.95, seed=2903)
        pieces = list(compressed.generate("To be", 16, sampler))
        print(f"{len(pieces)} pieces of sampled text: {''.join(pieces)!r}")


if __name__ == "__main__":
    main()
