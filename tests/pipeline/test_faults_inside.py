"""Models and text that are out of the ordinary: what comes of each is defined, and on record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from kills import SMALL, SPEC
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import lrc
from lrc.errors import LrcError
from lrc.models.opened import open_model

Weights = dict[str, NDArray[np.float32]]
FIRST = "model.layers.0."
WINDOWS = np.random.default_rng(6).integers(0, 256, (2, 16))
ZEROS = "inputs were 0 throughout the text"


def zero_rows(w: Weights) -> None:
    w[FIRST + "mlp.up_proj.weight"][3:10] = 0


def zero_matrix(w: Weights) -> None:
    w[FIRST + "self_attn.o_proj.weight"][:] = 0


def dead_inputs(w: Weights) -> None:
    w[FIRST + "input_layernorm.weight"][5:9] = 0


def dead_within(w: Weights) -> None:
    for name in ("up", "gate"):
        w[FIRST + f"mlp.{name}_proj.weight"][3:10] = 0


def all_dead(w: Weights) -> None:
    w[FIRST + "input_layernorm.weight"][:] = 0


def one_direction(w: Weights) -> None:
    table = w["model.embed_tokens.weight"]
    table[:] = np.outer(np.ones(len(table)), table[0])


def nothing_at_all(w: Weights) -> None:
    w["model.embed_tokens.weight"][:] = 0


def large_weights(w: Weights) -> None:
    w[FIRST + "mlp.down_proj.weight"][2, 3] *= 1e3
    w[FIRST + "mlp.down_proj.weight"][7] *= 1e3


def large_inputs(w: Weights) -> None:
    w[FIRST + "input_layernorm.weight"][3] = 1e3
    w[FIRST + "post_attention_layernorm.weight"][1] = 1e3


def as_it_is(w: Weights) -> None:
    del w


def made(folder: Path, damage: Callable[[Weights], None]) -> Path:
    model = tiny.write_model(folder / "model", **SMALL)
    weights = {name: array.copy() for name, array in load_file(model / "model.safetensors").items()}
    damage(weights)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    return model


def said(report: lrc.CompressReport) -> Iterator[str]:
    """All that the report warns of, and notes of the first block with the matrix before them."""
    yield from report.warnings
    for name, record in report.matrices.items():
        if name.startswith(FIRST):
            yield from (f"{name.removeprefix(FIRST)} {note}" for note in record["notes"])


CASES: dict[str, tuple[Callable[[Weights], None], Any, tuple[str, ...]]] = {
    "zero rows": (zero_rows, WINDOWS, ()),
    "zero matrix": (zero_matrix, WINDOWS, ()),
    "dead inputs": (dead_inputs, WINDOWS, (f"self_attn.q_proj.weight 4 of 16 {ZEROS}",)),
    "dead channels within": (dead_within, WINDOWS, ()),  # once rounded, they are not quite dead
    "no inputs at all": (all_dead, WINDOWS, (
        f"self_attn.v_proj.weight 16 of 16 {ZEROS}", "rank 0: with rank 2 the error was no lower")),
    "one direction": (one_direction, WINDOWS, ()),
    "zero embedding": (nothing_at_all, WINDOWS, (f"mlp.up_proj.weight 16 of 16 {ZEROS}",)),
    "weights of 1000": (large_weights, WINDOWS, ()),
    "inputs of 1000": (large_inputs, WINDOWS, ("matrices are far from the original's", "--mix 0")),
    "the same token throughout": (as_it_is, np.full((2, 16), 65), ()),
    "fewer tokens than inputs": (as_it_is, WINDOWS[:1, :8], (
        "calibrated on 8 tokens, and matrices have up to 24 inputs", "give more text")),
    "two tokens": (as_it_is, WINDOWS[:1, :2], ("calibrated on 2 tokens",)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_compressed_to_finite_weights_and_the_report_says_so(
    tmp_path: Path, name: str
) -> None:
    damage, windows, expected = CASES[name]
    model = made(tmp_path, damage)
    report = lrc.compress(model, tmp_path / "out", SPEC, windows=windows, threads=1)
    _, stored = open_model(tmp_path / "out")
    for matrix, record in report.matrices.items():
        assert np.isfinite(stored.dense(matrix)).all(), matrix
        assert np.isfinite([record["relative_error"], record["frobenius_error"]]).all()
    assert lrc.verify(tmp_path / "out", model).differences == ()
    assert np.isfinite(report.self_test["loss"])
    notes = list(said(report))
    for line in expected:
        assert any(line in note for note in notes), (line, notes)
    assert any(ZEROS in note for note in notes) == any(ZEROS in line for line in expected)
    if name == "zero matrix":
        assert not stored.dense(FIRST + "self_attn.o_proj.weight").any() or (
            report.matrices[FIRST + "self_attn.o_proj.weight"]["relative_error"] < 1
        )


def endless_weight(w: Weights) -> None:
    w[FIRST + "mlp.down_proj.weight"][0, 0] = np.inf


def overflowing(w: Weights) -> None:
    w[FIRST + "mlp.up_proj.weight"][0] = 3e38
    w[FIRST + "mlp.gate_proj.weight"][0] = 1e38


@pytest.mark.parametrize(
    ("damage", "windows", "line"),
    [
        (endless_weight, WINDOWS, "has 1 values that are NaN or infinite; the checkpoint is damag"),
        (overflowing, WINDOWS, "no finite activation among 32 tokens; check the model's weights"),
        (as_it_is, WINDOWS[:1, :1], "at least one window of at least 2 tokens"),
    ],
)
def test_what_nothing_can_be_made_of_is_refused_in_a_line(
    tmp_path: Path, damage: Callable[[Weights], None], windows: Any, line: str
) -> None:
    model = made(tmp_path, damage)
    with np.errstate(all="ignore"), pytest.raises(LrcError, match=line) as error:
        lrc.compress(model, tmp_path / "out", SPEC, windows=windows, threads=1)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_window_of_one_token_is_refused_by_the_command(
    lrc: Any, model: Path, text: Path, tmp_path: Path
) -> None:
    outcome = lrc("compress", model, "-o", tmp_path / "o", "--calib", text, "--seqlen", 1)
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "seqlen" in outcome.err


def test_a_side_file_that_would_be_written_over_is_refused(tmp_path: Path) -> None:
    model = made(tmp_path, as_it_is)
    (model / "unfinished.json").write_text("{}")
    with pytest.raises(LrcError, match="a name that lrc needs for a file of its own; rename"):
        lrc.compress(model, tmp_path / "out", SPEC, windows=WINDOWS, threads=1)
    assert not (tmp_path / "out.partial").exists()


def test_rounding_that_looks_at_no_inputs_asks_for_no_text(tmp_path: Path) -> None:
    model = made(tmp_path, as_it_is)
    spec = lrc.CompressSpec.from_dict({
        "decompose": {"recipe": "round-to-nearest", "rotation": "none", "low_rank": {"rank": 0},
                      "quant": {"codebook": "uniform", "bits": 4}},
        "calibration": {"streams": "original", "nsamples": 1},
    })  # fmt: skip
    report = lrc.compress(model, tmp_path / "out", spec, windows=WINDOWS[:1, :8])
    assert not [line for line in report.warnings if "calibrated on" in line]
