"""Compression in the metric of the model's end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import whisper_cases
from model_families import FAMILIES
from random_weights import random_weights
from tiny_llama import tiny_model

import lrc as library
from lrc.base.progress import SILENT
from lrc.calibrate.streams import window_chunks
from lrc.cli.main import main
from lrc.errors import SpecError
from lrc.models import declared
from lrc.pipeline import site
from lrc.pipeline.metric import GradientStore, gradient_store
from lrc.refine import layer_gradients
from lrc.refine.layer_gradients import LayerPlace
from lrc.spec import CompressSpec, MetricSpec

Lrc = Callable[..., Any]
KL = ("--metric", "kl", "--metric-tokens", "128")
#: Families one of each kind of block, and what their sites take.
KINDS = ("llama", "gemma2", "gpt2", "mixtral", "mamba")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.iterdir() if path.name != "lrc-run.json")  # it has times
    return {path.name: path.read_bytes() for path in files}


def write_dense(family: str, folder: Path) -> Path:
    """The first case of a family, over the bytes that the tiny tokenizer knows."""
    config = next(iter(FAMILIES[family].values())).changed(
        vocab_size=258, bos_token_id=256, eos_token_id=257
    )
    return tiny.write_directory(folder / "model", config, random_weights(declared(config), 5))


def fail_after(matrices: int, patch: pytest.MonkeyPatch) -> None:
    """Let memory end after so many matrices."""
    solve, given = site.decompose_at_site, iter(range(matrices))

    def failing(*arguments: Any, **options: Any) -> Any:
        if next(given, None) is None:
            raise MemoryError
        return solve(*arguments, **options)

    patch.setattr(site, "decompose_at_site", failing)


@pytest.fixture
def command(model: Path, text: Path, fast: tuple[str, ...], tmp_path: Path) -> list[str]:
    return ["compress", str(model), "-o", str(tmp_path / "out"), "--calib", str(text), *fast, *KL]


@pytest.fixture(scope="session")
def whole(
    model: Path, text: Path, fast: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("metric") / "out"
    command = ["compress", str(model), "-o", str(out), "--calib", str(text), *fast, *KL]
    assert main(command) == 0
    return out


def test_it_changes_codes_and_leaves_nothing_behind(lrc: Lrc, whole: Path, packed: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {path.name for path in packed.iterdir()}
    blocks = sorted(whole.glob("block-*"))
    assert blocks
    assert all(path.read_bytes() != (packed / path.name).read_bytes() for path in blocks)
    spec = lrc("inspect", whole, "--json").check().json["spec"]
    assert spec["metric"]["of"] == "kl"
    assert spec["metric"]["tokens"] == 128


def test_threads_change_no_byte(whole: Path, command: list[str], tmp_path: Path) -> None:
    assert main([*command, "--threads", "2"]) == 0
    assert contents(tmp_path / "out") == contents(whole)


def test_it_goes_on_from_where_it_failed(
    whole: Path, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_after(8, patch)
        assert main(command) == 1
    left = {path.name for path in (tmp_path / "out.partial").iterdir()}
    assert "unfinished-gradients.json" in left
    taken: list[str] = []
    monkeypatch.setattr("lrc.pipeline.metric.layer_gradients", lambda *_, **__: taken.append("no"))
    assert main(command) == 0
    assert not taken
    assert contents(tmp_path / "out") == contents(whole)


def stored(folder: Path, spec: MetricSpec, windows: np.ndarray) -> GradientStore:
    folder.mkdir()
    return gradient_store(
        folder, tiny_model(), (window_chunks(windows),), spec, seed=1, threads=1, progress=SILENT
    )


def test_batches_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that do not fit in memory together are worked on one after the other."""
    windows, spec = np.random.default_rng(3).integers(0, 48, (4, 12)), MetricSpec("kl", 48)
    whole = stored(tmp_path / "whole", spec, windows)
    monkeypatch.setattr(layer_gradients, "BATCH_BYTES", 1)
    parts = stored(tmp_path / "parts", spec, windows)
    for block, at in ((0, LayerPlace(0, 2)), (1, LayerPlace(3, 0))):
        found = [store.outputs(block, at) for store in (whole, parts)]
        assert None not in found
        (one, rows), (other, others) = found
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6 * np.abs(one).max())
        assert rows == pytest.approx(others)
        assert 1 < rows <= 48


def test_tokens_count_by_their_gradients_and_others_as_the_mean(tmp_path: Path) -> None:
    windows = np.random.default_rng(3).integers(0, 48, (5, 12))
    store = stored(tmp_path / "store", MetricSpec("kl", 24, power=0.5), windows)
    assert store.pieces == [(0, 1), (0, 3)]
    hidden = [np.zeros((5, 12, 32), np.float32)]
    weights = store.token_weights(0, LayerPlace(0, 0), hidden)
    assert weights is not None
    (found,) = weights
    found = found.reshape(5, 12)
    np.testing.assert_array_equal(found[[0, 2, 4]], 1)
    assert found[[1, 3]].mean() == pytest.approx(1, rel=1e-5)
    assert found[[1, 3]].std() > 0.1
    plain = GradientStore(store.folder, MetricSpec("kl", 24, power=0.0), store.pieces)
    assert plain.token_weights(0, LayerPlace(0, 0), hidden) is None
    assert store.outputs(9, LayerPlace(0, 0)) is None


def test_both_stacks_of_a_model_that_hears_take_it(tmp_path: Path) -> None:
    case = next(iter(whisper_cases.CASES.values()))
    model = case.model(4)
    features, ids = ([case.features(s, 1) for s in (4, 5)], [case.ids(s, 1, 6) for s in (4, 5)])
    store = gradient_store(
        tmp_path, model, (features, ids), MetricSpec("kl", 12), seed=1, threads=1, progress=SILENT
    )
    assert store.pieces == [(0, 0), (1, 0)]
    for stack, inputs in zip(model.stacks, (features, ids), strict=True):
        hidden = [stack.start(x) for x in inputs]
        weights = store.token_weights(stack.first, LayerPlace(0, 0), hidden)
        assert weights is not None
        assert [len(of) for of in weights] == [h.shape[1] for h in hidden]
        assert np.mean(np.concatenate(weights)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("family", KINDS)
def test_every_kind_of_block_takes_it(family: str, text: Path, tmp_path: Path) -> None:
    dense = write_dense(family, tmp_path)
    spec = CompressSpec.from_dict(
        {
            "decompose": {"recipe": "ldlq", "quant": {"codebook": "uniform", "bits": 3}},
            "calibration": {"files": [str(text)], "nsamples": 3, "seqlen": 48},
            "metric": {"of": "kl", "tokens": 96},
        }
    )
    report = library.compress(dense, tmp_path / "out", spec, threads=1)
    assert set(library.load(tmp_path / "out").model.tensors.matrices)
    for name, matrix in report.matrices.items():
        if "experts" not in name and matrix["role"] == "matrix":
            assert 0 < matrix["relative_error"] < 1


@pytest.mark.parametrize(
    ("decompose", "told"),
    [
        ({"recipe": "round-to-nearest"}, "looks at no errors"),
        ({"recipe": "corrected", "rounding": "nearest", "low_rank": {"rank": 4}}, "looks at no"),
        ({"device": "cuda"}, "on the CPU"),
    ],
)
def test_what_cannot_use_it_is_refused(decompose: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        CompressSpec.from_dict({"decompose": decompose, "metric": {"of": "kl"}})


def test_tokens_without_the_metric_are_refused(lrc: Lrc, model: Path, tmp_path: Path) -> None:
    found = lrc("compress", model, "-o", tmp_path / "out", "--metric-tokens", "64")
    assert found.code != 0
    assert "--metric kl" in found.err


def test_a_metric_of_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="that of the inputs"):
        MetricSpec("kl", outputs=False, power=0.0)
    with pytest.raises(SpecError, match="unknown"):
        MetricSpec("else")
