"""A survey of a model that hears: both halves, and KL of candidates in either of them."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_whisper
from random_weights import MemorySource
from whisper_cases import CASES

from lrc.allocation.candidates import CandidateStore
from lrc.allocation.endtoend import Trial, divergences
from lrc.allocation.options import Candidate
from lrc.allocation.survey import SurveyJob, Tables, survey
from lrc.base.progress import SILENT
from lrc.calibrate.examples import SpeechExamples
from lrc.calibrate.table_options import TableOptions
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.measure.divergence import Prediction
from lrc.models import load_model
from lrc.models.whisper import WhisperModel
from lrc.quant.table import quantize_table
from lrc.run.utterances import Heard
from lrc.spec import AllocationSpec, CompressSpec, DecomposeSpec, LowRankSpec, QuantSpec

EMBEDDING = "model.decoder.embed_tokens.weight"
FIRST = 3


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> SurveyJob:
    folder = tmp_path_factory.mktemp("speech")
    source = Checkpoint.open(tiny_whisper.write_model(folder / "model"))
    heard = [
        Heard(CASES["plain"].features(seed, 1), CASES["plain"].ids(seed, 1, 6 + seed), FIRST, 1.0)
        for seed in range(5)
    ]
    allocation = AllocationSpec(bits_per_weight=3.0, heldout_windows=2)
    first, last = SpeechExamples(heard).split(allocation)
    spec = CompressSpec(decompose=DecomposeSpec(quant=QuantSpec("e8p"), low_rank=LowRankSpec(4)))
    return SurveyJob(
        source=source, model=load_model(source), spec=spec, allocation=allocation,
        surveyed=first, heldout=last, threads=2, store=CandidateStore(folder / "levels"),
        tables=Tables(source, TableOptions({})), progress=SILENT,
    )  # fmt: skip


def logits(model: WhisperModel, features: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return model.logits(ids, model.listen(features, ids.shape[1]))[0, FIRST - 1 : -1]


def test_utterances_are_split_without_overlap(job: SurveyJob) -> None:
    assert [ids.shape for ids in job.surveyed[1]] == [(1, 6), (1, 7), (1, 8)]
    assert [ids.shape for ids in job.heldout.inputs[1]] == [(1, 9), (1, 10)]
    assert job.heldout.first == (FIRST, FIRST)
    assert job.heldout.positions == 2 * 50


def test_divergences_are_those_of_models_with_these_weights(job: SurveyJob) -> None:
    options = survey(job)
    assert set(options) == set(job.model.tensors.matrices)
    names = list(options)
    last = next(name for name in names if name.endswith("layers.1.encoder_attn.v_proj"))
    trials = [
        Trial(),
        Trial({names[3]: Candidate(2, 4)}),
        Trial({last: Candidate(2, 4)}),
        Trial({names[0]: Candidate(2, 0), last: Candidate(3, 0)}, embed_bits=4),
        Trial(embed_bits=4),
    ]
    assert names[3].startswith("model.encoder.")
    found = divergences(job, trials, "test")
    assert found[0] < 1e-6
    for trial, value in zip(trials[1:], found[1:], strict=True):
        weights = {name: job.source.dense(name) for name in job.source.names()}
        for name, candidate in trial.candidates.items():
            block = job.model.tensors.matrices[name].block
            W = weights[f"{name}.weight"]
            weights[f"{name}.weight"] = job.store.matrix(block, name, candidate, W, 1.0)
        if trial.embed_bits:
            weights[EMBEDDING] = quantize_table(weights[EMBEDDING], 4)[0].to_dense()
        other = load_model(MemorySource(dict(job.source.config), weights))
        total, count = 0.0, 0
        for features, ids in zip(*job.heldout.inputs, strict=True):
            mine, theirs = (Prediction(logits(m, features, ids)) for m in (job.model, other))
            total, count = total + mine.divergence(theirs).sum(), count + ids.size - FIRST
        assert value == pytest.approx(total / count, rel=1e-3, abs=1e-6)
    assert divergences(job, trials[3:4], "test") == [found[3]]
