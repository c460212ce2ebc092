"""``lrc eval``, ``generate``, ``inspect`` and ``export`` on a dense and a compressed model."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.parts.packed import PackedCheckpoint
from lrc.testing.tolerance import relative_difference

Lrc = Callable[..., Any]
EVAL_KEYS = [
    "perplexity",
    "perplexity_stderr",
    "kl_divergence",
    "kl_stderr",
    "top1_agreement",
    "tokens",
    "perplexity_ratio",
    "perplexity_ratio_interval",
    "kl_interval",
    "activations",
    "ctx",
    "peak_rss_bytes",
    "bits_per_weight_linear",
    "bits_per_weight_file",
    "file_bytes",
    *("name", "text", "text_digest", "windows", "score", "against"),
]
SMALL = ("--ctx", 64, "--windows", 4, "--quiet", "--json")


def test_eval_json_has_exactly_the_promised_keys(
    lrc: Lrc, model: Path, packed: Path, text: Path
) -> None:
    record = lrc("eval", packed, "--text", text, "--against", model, *SMALL).check().json
    assert sorted(record) == sorted(EVAL_KEYS)
    assert record["kl_divergence"] > 0
    assert 0 <= record["top1_agreement"] <= 1
    assert record["tokens"] == 4 * 32
    low, high = record["perplexity_ratio_interval"]
    assert low <= record["perplexity_ratio"] <= high
    low, high = record["kl_interval"]
    assert 0 < low <= record["kl_divergence"] <= high


def test_eval_table_shows_intervals_where_there_are_some(
    lrc: Lrc, model: Path, packed: Path, text: Path
) -> None:
    options = ("--text", text, "--against", model, "--ctx", 64, "--quiet", "--windows")
    lines = lrc("eval", packed, *options, 3).check().out.splitlines()
    shown = [line for line in lines if line.startswith(("perplexity / original's", "KL"))]
    assert len(shown) == 2
    assert all(line.endswith("]") for line in shown)
    assert "]" not in lrc("eval", packed, *options, 1).check().out


def test_a_model_against_itself_has_no_divergence(lrc: Lrc, model: Path, text: Path) -> None:
    record = lrc("eval", model, "--text", text, "--against", model, *SMALL).check().json
    assert record["kl_divergence"] == pytest.approx(0, abs=1e-6)
    assert record["top1_agreement"] == 1
    assert record["perplexity_ratio"] == 1
    assert record["perplexity_ratio_interval"] == [1, 1]
    assert record["bits_per_weight_linear"] == 32
    assert record["file_bytes"] == (model / "model.safetensors").stat().st_size


def test_without_an_original_divergence_is_null(lrc: Lrc, model: Path, text: Path) -> None:
    record = lrc("eval", model, "--text", text, "--score", "all", *SMALL).check().json
    assert record["kl_divergence"] is None
    assert record["kl_stderr"] is None
    assert record["top1_agreement"] is None
    assert record["perplexity_ratio"] is record["perplexity_ratio_interval"] is None
    assert record["kl_interval"] is None
    # Random weights know nothing: they cannot be much better than chance over 258 tokens.
    assert record["perplexity"] > 100


def test_eval_defaults_to_the_help_topics(lrc: Lrc, model: Path) -> None:
    outcome = lrc("eval", model, "--ctx", 32, "--windows", 2, "--quiet").check()
    assert "perplexity" in outcome.out
    assert "±" in outcome.out


def test_threads_do_not_change_an_evaluation(lrc: Lrc, packed: Path, text: Path) -> None:
    one, two = (
        lrc("eval", packed, "--text", text, *SMALL, "--threads", threads).check().json
        for threads in (1, 2)
    )
    assert one == two


def test_generate_is_repeatable(lrc: Lrc, model: Path, packed: Path) -> None:
    for path in (model, packed):
        options = ("-p", "The quick", "--max-tokens", 12, "--quiet")
        first = lrc("generate", path, *options, "--seed", 5501).check()
        again = lrc("generate", path, *options, "--seed", 5501).check()
        assert first.out == again.out
        assert first.out.strip() or first.out.endswith("\n")


def test_options_of_the_sampler_reach_it(lrc: Lrc, model: Path) -> None:
    def text(*options: Any) -> str:
        fixed = ("-p", "The quick", "--max-tokens", 12, "--quiet")
        return str(lrc("generate", model, *fixed, *options).check().out)

    greedy = text("--temp", 0)
    assert text("--temp", 2, "--top-p", 1) != greedy
    assert text("--temp", 2, "--top-p", 1, "--top-k", 1) == greedy
    assert text("--temp", 2, "--top-p", 1, "--min-p", 1) == greedy
    assert text("--temp", 0, "--repetition-penalty", 5) != greedy
    assert text("--temp", 0, "--frequency-penalty", 50) != greedy
    assert text("--temp", 0, "--presence-penalty", 50) != greedy
    assert set(text("--temp", 2, "--logit-bias", "65:100")[:-1]) == {"b"}


def test_a_stop_string_ends_what_is_generated(lrc: Lrc, model: Path) -> None:
    options = ("generate", model, "-p", "The quick", "--max-tokens", 40, "--quiet", "--temp", 1)
    whole = lrc(*options).check().out[:-1]
    stop = whole[8:10]
    expected = whole[: whole.index(stop)]
    assert lrc(*options, "--stop", "\x01\x02", stop).check().out == expected + "\n"
    record = lrc(*options, "--stop", stop, "--json").check().json
    assert record["text"] == expected
    assert record["tokens"] < 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--stop", ""), "a stop string is empty"),
        (("--logit-bias", "x"), "write it as 11:-100"),
        (("--logit-bias", "999:1"), "ids 0 to 257"),
        (("--presence-penalty", "nan"), "presence_penalty=nan"),
    ],
)
def test_senseless_options_of_the_sampler_are_one_line(
    lrc: Lrc, model: Path, options: tuple[str, ...], words: str
) -> None:
    outcome = lrc("generate", model, "-p", "A", *options)
    assert outcome.code == 1
    assert words in outcome.err
    assert outcome.err.count("\n") == 1


def test_quiet_does_not_hide_that_kernels_are_compiled(
    lrc: Lrc, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrc_kernels.cpu.engine.token.is_compiled", lambda: False)
    monkeypatch.setattr("lrc.nn.engine.decode._announced", False)
    options = ("generate", packed, "-p", "A", "--max-tokens", 1, "--quiet")
    assert "compiling kernels" in lrc(*options).check().err
    assert lrc(*options).check().err == ""  # once a process


def test_generate_chat_record(lrc: Lrc, packed: Path) -> None:
    record = (
        lrc("generate", packed, "--chat", "-p", "Why?", "--max-tokens", 9, "--json", "--quiet")
        .check()
        .json
    )
    assert 1 <= record["tokens"] <= 9
    assert record["prompt_tokens"] > len("Why?")
    assert record["peak_rss_bytes"] > 0


def test_generate_takes_a_system_prompt(lrc: Lrc, packed: Path) -> None:
    options = ("generate", packed, "-p", "Why?", "--max-tokens", 1, "--json", "--quiet")
    alone = lrc(*options, "--chat").check().json["prompt_tokens"]
    told = lrc(*options, "--chat", "--system", "Be brief.").check().json["prompt_tokens"]
    # the tiny template: <|start|>system\nBe brief.<|end|>\n, a token a byte
    assert told - alone == 1 + len("system\nBe brief.") + 1 + 1
    refused = lrc(*options, "--system", "Be brief.")
    assert refused.code == 1
    assert "add --chat" in refused.err


def test_greedy_text_is_that_of_the_decoded_weights(lrc: Lrc, packed: Path, tmp_path: Path) -> None:
    lrc("export", packed, "--to", "hf", "-o", tmp_path / "hf", "--quiet").check()
    options = ("-p", "A matrix", "--max-tokens", 4, "--temp", 0, "--quiet")
    assert (
        lrc("generate", packed, *options, "--activations", "f32").check().out
        == lrc("generate", tmp_path / "hf", *options).check().out
    )


def test_running_a_compressed_model_imports_no_solver(packed: Path, text: Path) -> None:
    script = (
        "import sys, lrc.cli.main\n"
        "for verb in (['generate', sys.argv[1], '-p', 'A', '--max-tokens', '2', '--quiet'],\n"
        "             ['eval', sys.argv[1], '--text', sys.argv[2], '--ctx', '32',\n"
        "              '--windows', '1', '--quiet']):\n"
        "    assert lrc.cli.main.main(verb) == 0\n"
        "solvers = ('linalg', 'quant', 'solvers', 'calibrate', 'allocation', 'refine',\n"
        "           'pipeline')\n"
        "print('loaded:', *(m for m in sys.modules for s in solvers\n"
        "      if m == 'lrc.' + s or m.startswith('lrc.' + s + '.')))\n"
        "print('loaded:', *({'scipy.sparse', 'cupy'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(packed), str(text)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("loaded:")]
    assert lines == ["loaded:", "loaded:"]


def test_inspect_lists_every_matrix(lrc: Lrc, model: Path, packed: Path) -> None:
    for path, runs_on in (
        (model, "NumPy blocks (weights that are not packed)"),
        (packed, "compiled engine"),
    ):
        outcome = lrc("inspect", path).check()
        assert f"runs on: {runs_on}" in outcome.out
        assert "layers.1.mlp.down_proj" in outcome.out
        assert "48x88" in outcome.out
        record = lrc("inspect", path, "--json").check().json
        assert len([name for name in record["matrices"] if "layers." in name]) == 14
    for name in ("parts", "error", "damping", "warnings"):
        assert name in outcome.out


def test_export_holds_the_decoded_weights(
    lrc: Lrc, model: Path, packed: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "hf"
    lrc("export", packed, "--to", "hf", "-o", out, "--quiet").check()
    dense, small = Checkpoint.open(out), PackedCheckpoint.open(packed)
    assert dense.names() == Checkpoint.open(model).names()
    half = float(np.finfo(np.float16).eps) / 2
    for name in dense.names():
        assert relative_difference(dense.dense(name), small.dense(name)) < half
    exact = ("--activations", "f32")
    ours = lrc("eval", packed, "--text", text, *SMALL, *exact).check().json["perplexity"]
    theirs = lrc("eval", out, "--text", text, *SMALL).check().json["perplexity"]
    assert math.isclose(ours, theirs, rel_tol=5e-4)
