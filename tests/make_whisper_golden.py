"""Write the golden logits and tokens of `tests/models/test_whisper.py` with transformers.

Needs the extra ``parity``. Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_whisper_golden.py

Each case of `tests/whisper_cases.py` gives the configuration as transformers saves it, ``.json``,
and ``.npz`` with token ids, their logits in float32, and what greedy generation gives. Weights and
features come from NumPy seeds and are not stored. ``defaults.json`` is a configuration of nothing
but defaults.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
    WhisperTimeStampLogitsProcessor,
)
from whisper_cases import (
    CASES,
    GOLDEN,
    LATEST_FIRST,
    NEW_TOKENS,
    NO_TIMES,
    SUPPRESSED,
    SUPPRESSED_FIRST,
    TIMED_END,
    Case,
)

SEED = 20261
TOKENS = 18


def saved(config: WhisperConfig) -> str:
    text = json.loads(config.to_json_string(use_diff=False))
    return json.dumps(text, indent=1, sort_keys=True) + "\n"


def loaded(case: Case, seed: int) -> WhisperForConditionalGeneration:
    """The model of a case, on the weights of a seed."""
    config = WhisperConfig(**case.config)
    config._attn_implementation = "eager"
    model = WhisperForConditionalGeneration(config).to(torch.float32).eval()
    state = {k: torch.from_numpy(v) for k, v in case.source(seed).weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = {"proj_out.weight"} if config.tie_word_embeddings else set()
    if set(missing) - tied or unexpected:
        raise RuntimeError(f"{case.golden}: missing {missing}, unexpected {unexpected}")
    return model


def compute(case: Case, seed: int) -> tuple[NDArray[np.integer], NDArray[np.float32]]:
    """Token ids (2, T), and their logits about the features of ``seed + 2``."""
    ids, features = case.ids(seed + 1, 2, TOKENS), torch.from_numpy(case.features(seed + 2))
    with torch.no_grad():
        found = loaded(case, seed)(features, decoder_input_ids=torch.from_numpy(ids))
    return ids, found.logits.numpy()


def write_case(case: Case, seed: int) -> None:
    """Compute and write one case."""
    ids, logits = compute(case, seed)
    model, features = loaded(case, seed), torch.from_numpy(case.features(seed + 2))
    with torch.no_grad():
        # The plain loop of generation: Whisper's own wants thirty seconds.
        model.generation_config = GenerationConfig(
            decoder_start_token_id=2, eos_token_id=1, pad_token_id=0, do_sample=False,
            suppress_tokens=SUPPRESSED, begin_suppress_tokens=SUPPRESSED_FIRST,
            max_new_tokens=NEW_TOKENS,
        )  # fmt: skip
        written = super(WhisperForConditionalGeneration.__mro__[1], model).generate(features)
        model.generation_config = timed = GenerationConfig(
            decoder_start_token_id=2, eos_token_id=TIMED_END, pad_token_id=TIMED_END,
            do_sample=False, no_timestamps_token_id=NO_TIMES,
            max_initial_timestamp_index=LATEST_FIRST, max_new_tokens=NEW_TOKENS,
        )  # fmt: skip
        rules = [WhisperTimeStampLogitsProcessor(timed, begin_index=1)]
        plain = super(WhisperForConditionalGeneration.__mro__[1], model)
        with_times = plain.generate(features, logits_processor=rules)
    np.savez_compressed(
        case.golden.with_suffix(".npz"), seed=seed, ids=ids.astype(np.int32), logits=logits,
        written=written.numpy().astype(np.int32), timed=with_times.numpy().astype(np.int32),
    )  # fmt: skip
    case.golden.with_suffix(".json").write_text(saved(model.config))


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for offset, case in enumerate(CASES.values()):
        write_case(case, SEED + 10 * offset)
    (GOLDEN / "defaults.json").write_text(saved(WhisperConfig()))
