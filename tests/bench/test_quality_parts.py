"""Settings, texts, dither, tables and charts of ``bench/quality.py``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings

import lrc
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.spec.presets import preset

Script = Callable[[str], ModuleType]
RELAXED = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(
    ("text", "options", "config"),
    [
        ("e8p:2", ("--codebook", "e8p", "--bits", "2"), {}),
        ("e8p", ("--codebook", "e8p"), {}),
        ("default", (), {}),
        ("bpw:2.5,rank=0", ("--target-bpw", "2.5", "--rank", "0"), {}),
        ("size:60MB", ("--target-size", "60MB"), {}),
        ("preset:best", ("--preset", "best"), {}),
        (
            "default,decompose.polish_sweeps=0,decompose.quant.bits=3,seed=5",
            ("--seed", "5"),
            {"decompose": {"polish_sweeps": 0, "quant": {"bits": 3}}},
        ),
    ],
)
def test_a_setting_is_options_of_the_command(
    text: str, options: tuple[str, ...], config: dict[str, Any], script: Script
) -> None:
    found = script("quality_settings").parse(text)
    assert (found.options, found.config) == (options, config)


@pytest.mark.parametrize("text", ["", "bpw", "size:", "e8p:2,rank", "e8p:2,=3"])
def test_a_setting_of_another_form_is_refused(text: str, script: Script) -> None:
    with pytest.raises(ValueError, match="needs the form"):
        script("quality_settings").parse(text)


def test_ablations_change_one_thing_each(script: Script) -> None:
    rows = dict(script("quality_settings").ablations("trellis12:2,seed=9"))
    assert rows["lattice for trellis12"] == "e8p:2,seed=9"
    assert rows["no polish"] == "trellis12:2,seed=9,decompose.polish_sweeps=0"
    assert {"moments of the original alone", "rank 0", "rank 8", "rank 16"} <= set(rows)
    assert dict(script("quality_settings").ablations("e8p:2"))["trellis for e8p"] == "shuffle12:2"


def test_ablations_that_this_version_cannot_do_are_left_out(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("quality_settings")
    monkeypatch.setattr(module, "CHANGES", (("x", "decompose.no_such=0"), ("y", "rank=0")))
    assert [name for name, _ in module.ablations("e8p:2")[1:]] == ["y"]


@RELAXED
@given(seed=st.integers(2, 2**32 - 1), at=st.integers(0, 300), other=st.integers(0, 300))
def test_a_long_common_passage_is_always_found(
    seed: int, at: int, other: int, script: Script
) -> None:
    shared = script("quality_text").shared
    rng = np.random.default_rng(seed)
    draw = lambda start: [f"w{i}" for i in rng.integers(start, start + 50, 300)]  # noqa: E731
    seen, judged, common = draw(0), draw(1000), [f"c{i}" for i in rng.integers(0, 9, 39)]
    assert shared(" ".join(seen), " ".join(judged), 20) == []
    seen[at:at], judged[other:other] = common, common
    assert shared("\n\n".join(seen), " ".join(judged), 20)


def test_a_short_text_within_the_other_is_found(script: Script) -> None:
    shared = script("quality_text").shared
    assert shared("one two three four five six", "two three  four") == ["two three four"]
    assert shared("one two three", "three two one") == []
    assert shared("one two three", "") == []


def test_texts_are_checked_against_every_calibration_file(script: Script, tmp_path: Path) -> None:
    module = script("quality_text")
    judged = " ".join(f"word{i}" for i in range(200))
    clean, dirty = tmp_path / "clean.txt", tmp_path / "dirty.jsonl"
    clean.write_text("nothing of the kind " * 90)
    dirty.write_text(json.dumps({"text": "before it " + judged}) + "\n")
    module.check_apart([clean], [("test", judged)])
    with pytest.raises(module.RefusedError, match=r"4 passages of the text test are in .*dirty"):
        module.check_apart([clean, dirty], [("test", judged)])


@RELAXED
@given(seed=st.integers(2, 2**32 - 1), columns=st.integers(1, 80))
def test_dither_is_half_a_step_to_either_side(seed: int, columns: int, script: Script) -> None:
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((16, columns)).astype(np.float32)
    noise = script("quality_models").dithered(W, rng) - W
    for start in range(0, columns, 32):
        part = W[:, start : start + 32]
        half = (part.max(axis=1) - part.min(axis=1)) / 30
        assert (np.abs(noise[:, start : start + 32]) <= half[:, None] * 1.001 + 1e-6).all()


def test_a_dithered_copy_differs_in_its_linear_layers_only(script: Script, tmp_path: Path) -> None:
    module = script("quality_models")
    model = tiny.write_model(tmp_path / "model")
    out = module.dithered_copy(model, tmp_path)
    before, after = Checkpoint.open(model), Checkpoint.open(out)
    assert before.names() == after.names()
    for name in before.names():
        same = np.array_equal(before.dense(name), after.dense(name))
        assert same == ("_proj" not in name), name
    assert (out / "tokenizer.json").is_file()
    written = (out / "model.safetensors").stat().st_mtime_ns
    assert module.dithered_copy(model, tmp_path) == out
    assert (out / "model.safetensors").stat().st_mtime_ns == written


def row(setting: str, size: float, ratio: float, **more: Any) -> dict[str, Any]:
    kl = ratio - 1
    figures = {
        "perplexity": 20 * ratio, "perplexity_stderr": 1.5, "perplexity_ratio": ratio,
        "perplexity_ratio_interval": (ratio * 0.97, ratio * 1.02), "kl_divergence": kl,
        "kl_stderr": kl / 20, "kl_interval": (0.9 * kl, 1.1 * kl), "top1_agreement": 0.8,
    }  # fmt: skip
    return {
        "setting": setting, "reference": "original", "family": setting.partition(":")[0],
        "file_bytes": size * 1e6, "bits_per_weight_linear": 2.1, "bits_per_weight_file": 3.3,
        "seconds": 61.0, "peak_rss_bytes": 2**30, **figures,
        "more": [{"text": "other", "windows": 9, **figures}], **more,
    }  # fmt: skip


def rows() -> list[dict[str, Any]]:
    nothing = dict.fromkeys(
        ("perplexity_ratio", "perplexity_ratio_interval", "kl_divergence", "kl_interval",
         "kl_stderr", "top1_agreement", "seconds", "peak_rss_bytes")
    )  # fmt: skip
    original = row("original", 270, 1.0) | nothing
    original["more"] = [original["more"][0] | nothing]
    difference = {
        "perplexity_ratio": 1.2, "perplexity_ratio_interval": (1.1, 1.3),
        "kl_difference": 0.03, "kl_difference_interval": None,
    }  # fmt: skip
    return [
        original,
        row("e8p:2", 60, 1.9),
        row("e8p-rvq3:3", 80, 1.2),
        row("Q2_K", 71, 1.3, family="llama.cpp"),
        row("e8p:2", 60, float("inf")),
        row("e8p:2,mix=0", 60, 2.1, ablation="no mixture", base="e8p:2", to_base=difference),
        {"setting": "bad:1", "reference": "original", "family": "bad", "error": "no such thing"},
        row("e8p:2", 60, 1.5, reference="dithered"),
    ]


def test_markdown_has_every_row_once(script: Script) -> None:
    text = script("quality_table").markdown(rows())
    lines = text.splitlines()
    assert lines.count("### Against the original") == lines.count("### Against the dithered") == 1
    assert "| no mixture | `e8p:2,mix=0` | 2.1 | 1.2 [1.1, 1.3] | 0.03 | 61 |" in lines
    assert "- `bad:1` (original) failed: no such thing" in lines
    widths = {line.count("|") for line in lines if line.startswith("| `Q2_K`")}
    assert widths == {11, 4}
    assert "1.3 [1.261, 1.326]" in text


def test_chart_is_an_svg_with_axes_and_legend(script: Script, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    module = script("quality_table")
    for name in ("a.svg", "b.svg"):
        module.chart(rows(), tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    for word in ("file size (MB)", "KL divergence", "perplexity / original's", "llama.cpp", "Q2_K"):
        assert word in text
    assert "mix=0" not in text


def test_an_ablation_is_compared_with_its_base(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality = script("quality")
    asked: list[str] = []

    def judged(path: Path) -> dict[str, Any]:
        asked.append(str(path))
        loss = [3.0 + 0.1 * len(asked), 4.0, 5.0]
        return {
            "window_loss": loss, "window_kl": [0.1, 0.2, 0.1 * len(asked)], "windows": 3,
            "bits_per_weight_linear": 2.0469, "kl_divergence": 0.1, "file_bytes": 3,
        }  # fmt: skip

    def compressed(setting: Any) -> tuple[Path, dict[str, Any]]:
        if "rank=16" in setting.text:
            raise quality.FailedError("too large")
        return Path(setting.text), {"seconds": 1.0}

    options = argparse.Namespace(calib=[], nsamples=4, threads=None, share_surveys=False)
    bench = quality.Bench("original", tmp_path, judged, tmp_path / "work", options)
    monkeypatch.setattr(bench, "compress", compressed)
    bench.setting("e8p:2")
    found = list(bench.ablation("e8p:2"))
    assert asked.count("e8p:2") == 1, "a setting is measured once"
    assert found[0]["ablation"] == "base"
    assert found[-1]["setting"] == "bpw:2.0469"
    failed = [r for r in found if "error" in r]
    assert {r["error"] for r in failed} == {"too large"}
    assert all("rank=16" in r["setting"] for r in failed)
    assert all(r["to_base"]["perplexity_ratio"] > 1 for r in found[1:] if r not in failed)
    assert all("to_base" not in r for r in failed)


def test_synthetic_problems_are_repeatable_and_positive(script: Script) -> None:
    problem = script("synthetic").problem
    W, H = problem(48)
    again, _ = problem(48)
    np.testing.assert_array_equal(W, again)
    assert np.linalg.eigvalsh(H).min() > 0
    assert np.sqrt(np.diag(H)).max() > 8 * np.median(np.sqrt(np.diag(H)))


def test_synthetic_settings_are_presets_or_codebooks(script: Script) -> None:
    spec = script("synthetic").spec
    assert spec("fast", 3) == dataclasses.replace(
        preset("fast").decompose, low_rank=lrc.LowRankSpec(3)
    )
    named = spec("trellis14:3", 0)
    assert (named.quant.codebook, named.quant.bits, named.low_rank.rank) == ("trellis14", 3, 0)
