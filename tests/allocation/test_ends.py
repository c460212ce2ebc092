"""What a family does before and after its blocks is in what a survey measures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tiny
from model_families import FAMILIES
from random_weights import random_weights

from lrc.allocation.candidates import CandidateStore
from lrc.allocation.endtoend import Trial, divergences
from lrc.allocation.survey import SurveyJob, Tables
from lrc.base.progress import SILENT
from lrc.calibrate.examples import TextExamples
from lrc.calibrate.table_options import TableOptions
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.measure.evaluate import perplexity
from lrc.models import declared, load_model
from lrc.models.tensors import EMBEDDING, HEAD
from lrc.quant.table import quantize_table
from lrc.spec import AllocationSpec, CompressSpec

#: Scaled embeddings and logits, soft caps, norms of both kinds; tied and untied.
CASES = ("cohere-grouped_tied", "gemma2-alternating", "gemma2-chosen_windows", "granite-biases",
         "granite-multipliers")  # fmt: skip


def job_of(config: dict[str, object], weights: dict[str, np.ndarray], path: Path) -> SurveyJob:
    source = Checkpoint.open(tiny.write_directory(path / "model", config, weights))
    allocation = AllocationSpec(bits_per_weight=3.0, heldout_windows=2, heldout_tokens=40)
    ids = np.random.default_rng(4).integers(0, 48, (6, 48))
    first, last = TextExamples(ids).split(allocation)
    return SurveyJob(
        source=source,
        model=load_model(source),
        spec=CompressSpec(),
        allocation=allocation,
        surveyed=first,
        heldout=last,
        threads=2,
        store=CandidateStore(path / "levels"),
        tables=Tables(source, TableOptions({})),
        progress=SILENT,
    )


@pytest.mark.parametrize("case", CASES)
def test_divergences_are_those_of_models_with_these_tables(case: str, tmp_path: Path) -> None:
    family, name = case.split("-")
    config = FAMILIES[family][name].changed()
    weights = random_weights(declared(config), 5)
    job = job_of(config, weights, tmp_path / "original")
    trials = {EMBEDDING: Trial(embed_bits=3)}
    if HEAD in job.model.tensors.tables:
        trials[HEAD] = Trial(head_bits=3)
    found = divergences(job, list(trials.values()), "test")
    for (role, trial), value in zip(trials.items(), found, strict=True):
        key = job.model.tensors.tables[role]
        other = weights | {key: quantize_table(weights[key], 3)[0].to_dense()}
        path = tiny.write_directory(tmp_path / role, config, other)
        heldout = np.concatenate(job.heldout.inputs[0])
        model = load_model(Checkpoint.open(path))
        expected = perplexity(model, heldout, against=job.model).kl_divergence
        assert value == pytest.approx(expected, rel=1e-3), dataclasses.asdict(trial)
        assert value > 1e-4
