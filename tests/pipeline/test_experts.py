"""Mixtures of experts through the commands: what is counted, chosen, resumed and exported."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
import tiny
from model_families import FAMILIES
from random_weights import random_weights
from safetensors.numpy import load_file, save_file

import lrc as library
from lrc.base.progress import Advance, SilentProgress
from lrc.models import declared

Lrc = Callable[..., Any]
EXPERTS, DEAD = 5, 3
CONFIG = {
    **FAMILIES["qwen2_moe"]["plain"].config,
    **{"num_experts": EXPERTS, "num_experts_per_tok": 1, "vocab_size": 258},
    **{"bos_token_id": 256, "eos_token_id": 257},
}
QUICK = ("--nsamples", "4", "--seqlen", "64", "--iterations", "2", "--threads", "1", "--quiet")
IDS = np.random.default_rng(2).integers(0, 256, (4, 64))


def write(path: Path, config: dict[str, Any] = CONFIG) -> Path:
    """A tiny mixture of which one expert is never chosen."""
    weights = random_weights(declared(config), 5)
    for name, router in weights.items():
        if name.endswith("mlp.gate.weight"):
            others = np.arange(EXPERTS) != DEAD
            router[others] = np.random.default_rng(1).standard_normal(router[others].shape) / 4
            router[DEAD] = router[others].mean(axis=0)  # never the largest
    return tiny.write_directory(path, config, weights)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("experts") / "model")


@pytest.fixture(scope="module")
def compressed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> library.CompressReport:
    spec = library.CompressSpec(
        decompose=library.DecomposeSpec(low_rank=library.LowRankSpec(2), iterations=1)
    )
    out = tmp_path_factory.mktemp("compressed") / "out"
    return library.compress(model, out, spec, windows=IDS, threads=1)


def of_experts(matrices: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: record for name, record in matrices.items() if ".experts." in name}


def test_every_expert_says_what_it_saw(compressed: library.CompressReport) -> None:
    matrices = compressed.matrices
    experts = of_experts(matrices)
    assert len(experts) == 2 * 3 * EXPERTS
    for name, record in matrices.items():
        assert ("routed_tokens" in record) == ("borrowed" in record) == (name in experts)
    for layer in range(2):
        for key in ("gate_proj", "up_proj", "down_proj"):
            names = [f"model.layers.{layer}.mlp.experts.{e}.{key}.weight" for e in range(EXPERTS)]
            assert sum(matrices[name]["routed_tokens"] for name in names) == IDS.size
            dead = matrices[names[DEAD]]
            assert (dead["routed_tokens"], dead["borrowed"]) == (0, 1.0)
    assert all(0 < record["relative_error"] < 1 for record in experts.values())
    (warning,) = [text for text in compressed.warnings if "experts" in text]
    assert "no token was routed to 6 matrices of experts" in warning


def test_reports_show_it(lrc: Lrc, compressed: library.CompressReport, model: Path) -> None:
    shown = lrc("inspect", compressed.path).check().out
    assert "tokens  borrowed" in shown
    assert "matrices of experts: 0 to " in shown
    assert "6 of 30 saw none" in shown
    kept = json.loads((compressed.path / "lrc.json").read_text())
    assert kept["warnings"] == list(compressed.warnings)
    assert "borrowed" not in lrc("inspect", model).check().out


def test_the_router_is_exact(compressed: library.CompressReport, model: Path) -> None:
    dense, small = (library.load(path).model.source for path in (model, compressed.path))
    routers = [name for name in dense.names() if name.endswith("gate.weight")]
    assert len(routers) == 4  # two of them of the shared expert
    for name in routers:
        np.testing.assert_array_equal(small.dense(name), dense.dense(name))


def test_all_experts_may_be_calibrated_on_all_tokens(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path
) -> None:
    command = ("compress", model, "-o", tmp_path / "all", "--calib", text, "--rank", "2", *QUICK)
    record = lrc(*command, "--calibrate-all-experts", "--json").check().json
    assert record["spec"]["calibration"]["all_experts"] is True
    experts = of_experts(record["matrices"])
    assert {of["borrowed"] for of in experts.values()} == {1.0}
    assert {of["routed_tokens"] for of in experts.values()} > {0}
    assert len({of["shrinkage"] for of in experts.values()}) == 1


def test_a_budget_gives_least_to_experts_that_are_never_chosen(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path
) -> None:
    command = ("compress", model, "-o", tmp_path / "out", "--calib", text, "--preset", "fast")
    record = lrc(*command, "--target-bpw", "3.2", *QUICK, "--json").check().json
    matrices = record["matrices"]
    dead = {n: of for n, of in of_experts(matrices).items() if f".experts.{DEAD}." in n}
    least = min(of["bits_per_weight"] for of in matrices.values())
    assert all(of["bits_per_weight"] < least + 1 for of in dead.values())
    assert max(of["bits_per_weight"] for of in matrices.values()) > least + 0.9


@dataclasses.dataclass
class Stopping(SilentProgress):
    """Ends the run when bars have moved so many times."""

    left: int

    @contextlib.contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Advance]:
        def advance(n: int = 1) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        yield advance


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    compressed: library.CompressReport, model: Path, tmp_path: Path
) -> None:
    """Stopped among the experts of the second block, and finished on two threads."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        library.compress(model, out, compressed.spec, windows=IDS, threads=1, progress=Stopping(40))
    library.compress(model, out, compressed.spec, windows=IDS, threads=2)
    files = sorted(path.name for path in compressed.path.iterdir())
    assert files == sorted(path.name for path in out.iterdir())
    for name in files:
        assert (out / name).read_bytes() == (compressed.path / name).read_bytes(), name


def test_stacked_and_apart_are_compressed_and_exported_alike(
    lrc: Lrc, compressed: library.CompressReport, model: Path, tmp_path: Path
) -> None:
    stacked, weights = tmp_path / "stacked", load_file(model / "model.safetensors")
    made = {name: weight for name, weight in weights.items() if ".experts." not in name}
    for layer in range(2):
        prefix = f"model.layers.{layer}.mlp.experts"

        def one(e: int, *keys: str, prefix: str = prefix) -> np.ndarray:
            return np.concatenate([weights[f"{prefix}.{e}.{key}_proj.weight"] for key in keys])

        made |= {
            f"{prefix}.gate_up_proj": np.stack([one(e, "gate", "up") for e in range(EXPERTS)]),
            f"{prefix}.down_proj": np.stack([one(e, "down") for e in range(EXPERTS)]),
        }
    tiny.write_directory(stacked, CONFIG, made)
    shown = lrc("inspect", stacked, "--json").check().json
    assert shown == {**lrc("inspect", model, "--json").check().json, "file_bytes": ANY,
                     "bits_per_weight_file": ANY}  # fmt: skip
    assert len(of_experts(shown["matrices"])) == 2 * 3 * EXPERTS
    out = library.compress(stacked, tmp_path / "out", compressed.spec, windows=IDS).path
    for path in compressed.path.glob("*.safetensors"):
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    exported = {
        name: lrc("export", path, "--to", "hf", "-o", tmp_path / name, "--quiet").check()
        and load_file(tmp_path / name / "model.safetensors")
        for name, path in (("small", out), ("whole", stacked))
    }
    for tensors in exported.values():
        assert set(tensors) == set(weights)
    for name, weight in weights.items():
        np.testing.assert_allclose(exported["whole"][name], weight, atol=1e-3)


def test_one_expert_is_a_mixture_too(tmp_path: Path) -> None:
    config = {**CONFIG, "num_experts": 1, "num_hidden_layers": 1}
    weights = random_weights(declared(config), 5)
    model = tiny.write_directory(tmp_path / "model", config, weights)
    spec = library.CompressSpec(decompose=library.DecomposeSpec(low_rank=library.LowRankSpec(2)))
    report = library.compress(model, tmp_path / "out", spec, windows=IDS)
    assert {of["routed_tokens"] for of in of_experts(report.matrices).values()} == {IDS.size}


def test_a_stack_with_a_value_that_is_not_finite_is_refused(tmp_path: Path, model: Path) -> None:
    folder = write(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.experts.3.up_proj.weight"][0, 0] = np.nan
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(library.LrcError, match=r"experts\.3\.up_proj\.weight"):
        library.compress(folder, tmp_path / "out", windows=IDS)


@pytest.mark.parametrize(("passes", "label"), [(80, "matrix"), (10, "sites alike"), (2, "block")])
def test_what_is_measured_together_counts_by_its_use(
    model: Path, tmp_path: Path, passes: int, label: str
) -> None:
    """An expert that no token has costs nothing, whatever it is measured with."""
    folder = tmp_path / "survey"
    allocation = library.AllocationSpec(bits_per_weight=3.2, passes=passes, survey_windows=2)
    spec = library.CompressSpec(
        decompose=library.DecomposeSpec(low_rank=library.LowRankSpec(0), iterations=1)
    )
    library.compress(
        model, tmp_path / "out", spec, allocation=allocation, windows=IDS, survey_folder=folder
    )
    measured = json.loads((folder / "sensitivities.json").read_text())
    assert measured["group"] == label
    slopes = {name: slope for name, slope in measured["slope"].items() if ".experts." in name}
    of_dead = [slope for name, slope in slopes.items() if f".experts.{DEAD}." in name]
    of_others = [slope for name, slope in slopes.items() if f".experts.{DEAD}." not in name]
    assert max(of_dead) < 0.01 * max(of_others)


def test_few_tokens_give_the_errors_of_their_moments(
    model: Path,
    compressed: library.CompressReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where rows of tokens are kept for every site that may: on record, alike on any threads."""
    monkeypatch.setattr("lrc.calibrate.site_moment.rows_are_few", lambda tokens, n: True)
    runs = [
        library.compress(
            model, tmp_path / str(threads), compressed.spec, windows=IDS, threads=threads
        )
        for threads in (1, 2)
    ]
    errors, few = [], 0
    names = [name for name in runs[0].matrices if ".layers." in name]
    for name in names:
        record = runs[0].matrices[name]
        errors.append(record["relative_error"] / compressed.matrices[name]["relative_error"])
        few += any("kept as the rows of" in note for note in record["notes"])
        assert record == runs[1].matrices[name]
    assert few == sum("mlp.experts" not in n or "down_proj" in n for n in names)
    assert np.mean(errors) == pytest.approx(1.0, abs=0.02)
    a, b = (load_file(run.path / "block-00000.safetensors") for run in runs)
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
