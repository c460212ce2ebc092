"""Train the small language model of `tests/data/trained` on the help topics of Python 3.11.

Needs the extra ``parity`` and Python 3.11, whose help topics the text is. Takes some ten minutes
on one core. Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_trained_model.py

``model/`` is a Llama directory in Hugging Face layout, float16; ``calibration.txt`` is text the
model was trained on and ``heldout.txt`` text it never saw. Another torch or processor gives other
weights: the bands of `tests/pipeline/test_quality_band.py` and the golden texts of
`tests/pipeline/test_golden_text.py` belong to the committed ones.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from pydoc_data.topics import topics

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = Path(__file__).parent / "data" / "trained"
SEED = 30317
START, END = "<|start|>", "<|end|>"
VOCABULARY = 512
CONTEXT = 256
BATCH, STEPS, WARM_UP, RATE = 16, 1100, 60, 4e-3
#: One topic in so many is held out, and a file of text has so many characters of each topic.
HELD_OUT, EXCERPT = 6, 2500


def split() -> tuple[list[str], list[str]]:
    """Topics to train on and topics held out, in alphabetical order."""
    texts = [topics[name].strip() + "\n" for name in sorted(topics)]
    held = texts[HELD_OUT - 1 :: HELD_OUT]
    return [text for text in texts if text not in held], held


def excerpts(texts: list[str]) -> str:
    """The beginnings of some topics, cut at a line."""
    return "\n\n".join(text[:EXCERPT].rsplit("\n", 1)[0] for text in texts) + "\n"


def make_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE; the last two ids are the special ones."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.add_special_tokens([START, END])
    assert made.get_vocab_size() == VOCABULARY
    return made


def make_model() -> LlamaForCausalLM:
    """Random weights; no width is a power of two, and heads are grouped."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        intermediate_size=224,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2 * CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
    )
    return LlamaForCausalLM(config)


def stream(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids of all texts, each between the special tokens."""
    return torch.tensor([i for t in texts for i in tokenizer.encode(START + t + END).ids])


def windows(ids: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Windows of `CONTEXT` tokens and the one that follows."""
    return torch.stack([ids[s : s + CONTEXT + 1] for s in starts.tolist()])


def loss(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Mean loss in nats of every token but the first."""
    logits = model(batch[:, :-1]).logits
    return cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def train(model: LlamaForCausalLM, ids: torch.Tensor, held: torch.Tensor) -> None:
    """AdamW with a warm-up and a cosine, on windows drawn at random."""
    draw = torch.Generator().manual_seed(SEED)
    decayed = [p for p in model.parameters() if p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    spaced = windows(held, torch.arange(0, len(held) - CONTEXT, CONTEXT))
    for step in range(STEPS):
        share = min((step + 1) / WARM_UP, 0.51 + 0.49 * math.cos(math.pi * step / STEPS))
        for group in optimizer.param_groups:
            group["lr"] = RATE * share
        starts = torch.randint(len(ids) - CONTEXT, (BATCH,), generator=draw)
        found = loss(model, windows(ids, starts))
        optimizer.zero_grad()
        found.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                unseen = loss(model, spaced)
            sys.stdout.write(f"step {step + 1}: loss {found:.3f}, held out {unseen:.3f}\n")


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a Hugging Face directory in float16."""
    model.half().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {"bos_token": START, "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    """Train and write everything anew."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    seen, held = split()
    tokenizer, model = make_tokenizer(seen), make_model()
    train(model, stream(tokenizer, seen), stream(tokenizer, held))
    shutil.rmtree(FOLDER / "model", ignore_errors=True)
    save(model, tokenizer, FOLDER / "model")
    (FOLDER / "calibration.txt").write_text(excerpts(seen[::6]), encoding="utf-8")
    (FOLDER / "heldout.txt").write_text(excerpts(held), encoding="utf-8")


if __name__ == "__main__":
    main()
