"""``lrc compress``: what it writes, what it reports, and that both agree."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from codebook_cases import MODULES
from numpy.typing import NDArray

from lrc import compress
from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.writing import write_safetensors
from lrc.formats.side_files import copy_side_files
from lrc.linalg.second_moment import SecondMoment
from lrc.linalg.token_rows import ChunkMoment
from lrc.measure.storage import linear_weights
from lrc.parts.fields import RUN
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline import block_files
from lrc.pipeline import compress as whole
from lrc.spec import AllocationSpec, CompressSpec
from lrc.testing.tolerance import relative_difference

Lrc = Callable[..., Any]


def digests(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != RUN  # which has times in it
    }


def test_every_linear_layer_is_packed_and_close_to_its_original(model: Path, packed: Path) -> None:
    dense, small = Checkpoint.open(model), PackedCheckpoint.open(packed)
    linear = linear_weights(dense)
    assert len(linear) == 14
    for name in linear:
        decoded = small.linear(name).to_dense()
        # A coarse guard: 2 bits leave about 30 % of a Gaussian matrix; garbage leaves 140 %.
        assert 0.01 < relative_difference(decoded, dense.dense(name)) < 0.7, name


def test_every_record_says_what_its_matrix_is(model: Path, packed: Path) -> None:
    roles = PackedCheckpoint.open(packed).roles()
    assert roles is not None
    linear = linear_weights(Checkpoint.open(model))
    assert roles == dict.fromkeys(linear, "matrix") | {"model.embed_tokens.weight": "embedding"}


@pytest.mark.parametrize("allocation", [None, AllocationSpec(bits_per_weight=3.0, passes=1)])
def test_a_weight_is_read_and_checked_once_a_visit(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allocation: AllocationSpec | None
) -> None:
    """Once for the final states and to compress; with a budget to survey and in each pass, too."""
    reads: Counter[str] = Counter()
    read = Checkpoint.dense

    def counted(self: Checkpoint, name: str, *, check_finite: bool = False) -> NDArray[np.float32]:
        reads[name] += 1
        assert check_finite or len(self.shape(name)) == 1
        return read(self, name, check_finite=check_finite)

    monkeypatch.setattr(Checkpoint, "dense", counted)
    windows = np.random.default_rng(3).integers(0, 256, (4, 24))
    compress(model, tmp_path / "out", windows=windows, allocation=allocation, threads=1)
    visits = 2 if allocation is None else 5  # and survey, sensitivities, the answer
    assert {reads[name] for name in linear_weights(Checkpoint.open(model))} == {visits}


def test_norms_and_embeddings_survive(model: Path, packed: Path) -> None:
    dense, small = Checkpoint.open(model), PackedCheckpoint.open(packed)
    norm = "model.layers.1.input_layernorm.weight"
    np.testing.assert_array_equal(small.dense(norm), dense.dense(norm))


def test_other_files_are_copied_byte_for_byte(model: Path, packed: Path) -> None:
    for file in model.iterdir():
        if file.name not in ("model.safetensors", "config.json"):
            assert (packed / file.name).read_bytes() == file.read_bytes(), file.name


def test_report_agrees_with_the_files(
    lrc: Lrc, model: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    record = (
        lrc("compress", model, "-o", tmp_path / "out", "--calib", text, "--json", *fast)
        .check()
        .json
    )
    small, dense = PackedCheckpoint.open(tmp_path / "out"), Checkpoint.open(model)
    weights = sum(math.prod(dense.shape(name)) for name in dense.names())
    assert record["file_bytes"] == small.nbytes
    assert record["bits_per_weight_file"] == pytest.approx(8 * small.nbytes / weights)
    linear = linear_weights(dense)
    stored = sum(small.linear(name).stored_bits for name in linear)
    counted = sum(math.prod(dense.shape(name)) for name in linear)
    assert record["bits_per_weight_linear"] == pytest.approx(stored / counted)
    assert len(record["matrices"]) >= 14
    assert all(0 < entry["relative_error"] < 1 for entry in record["matrices"].values())
    assert record["seconds"] > 0


def test_threads_do_not_change_the_bytes(
    lrc: Lrc, model: Path, packed: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lrc("compress", model, "-o", out, "--calib", text, *fast, "--threads", 2).check()
    assert digests(out) == digests(packed)


def test_another_seed_changes_the_codes(
    lrc: Lrc, model: Path, packed: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lrc("compress", model, "-o", out, "--calib", text, *fast, "--seed", 9187).check()
    assert digests(out) != digests(packed)


def test_self_written_calibration_needs_no_text(
    lrc: Lrc, model: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("first", "second"):
        lrc("compress", model, "-o", tmp_path / name, *fast).check()
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


def test_jsonl_is_read_as_the_same_text(
    lrc: Lrc, model: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    lines = tmp_path / "text.jsonl"
    lines.write_text(json.dumps({"text": text.read_text(encoding="utf-8")}) + "\n")
    lrc("compress", model, "-o", tmp_path / "out", "--calib", lines, *fast).check()


@pytest.mark.parametrize(
    "options",
    [
        ("--recipe", "ldlq"),
        ("--recipe", "round-to-nearest"),
        ("--recipe", "low-rank", "--rank", "8"),
        ("--rotation", "none"),
        ("--bits", "3", "--rank", "auto"),
        ("--bits", "4", "--rank", "0"),
        ("--codebook", "lloyd-max", "--bits", "3", "--group-size", "16"),
        ("--codebook", "uniform", "--bits", "4", "--embed-bits", "4"),
        ("--streams", "original"),
        ("--mix", "0"),
        ("--factor-bits", "16", "--embed-bits", "16"),
        *(("--codebook", name, "--bits", str(bits)) for name, bits in MODULES),
    ],
    ids=lambda options: " ".join(options),
)
def test_every_choice_gives_a_model_that_runs(
    lrc: Lrc,
    model: Path,
    text: Path,
    fast: tuple[str, ...],
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    out = tmp_path / "out"
    lrc("compress", model, "-o", out, "--calib", text, *fast, *options).check()
    record = lrc(
        *("eval", out, "--text", text, "--ctx", 64, "--windows", 2, "--json", "--quiet")
    ).check()
    assert math.isfinite(record.json["perplexity"])


def test_untied_head(lrc: Lrc, text: Path, fast: tuple[str, ...], tmp_path: Path) -> None:
    source = tiny.write_model(tmp_path / "untied", tie_word_embeddings=False, seed=311)
    out = tmp_path / "out"
    lrc("compress", source, "-o", out, "--calib", text, *fast, "--head-bits", 5).check()
    assert PackedCheckpoint.open(out).has("lm_head.weight")
    lrc("generate", out, "-p", "A", "--max-tokens", 3, "--quiet").check()


def test_config_file_says_the_same_as_options(
    lrc: Lrc, model: Path, packed: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    spec = CompressSpec.from_dict(
        {
            "decompose": {"quant": {"bits": 4}, "low_rank": {"rank": 4}, "iterations": 2},
            "calibration": {"files": [str(text)], "nsamples": 6, "seqlen": 64},
        }
    )
    config = tmp_path / "spec.json"
    config.write_text(json.dumps(spec.to_dict()))
    out = tmp_path / "out"
    lrc("compress", model, "-o", out, "--config", config, "--threads", 1, "--quiet").check()
    assert digests(out) == digests(packed)


def test_compressing_a_compressed_model_is_refused(
    lrc: Lrc, packed: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    outcome = lrc("compress", packed, "-o", tmp_path / "out", "--calib", text, *fast)
    assert outcome.code == 1
    assert outcome.err.startswith("lrc: error: ")
    assert "unexpected" not in outcome.err
    assert not list(tmp_path.iterdir())


def test_shrinkage_reaches_every_matrix(lrc: Lrc, model: Path, text: Path, tmp_path: Path) -> None:
    errors = []
    for share in ("0", "0.5"):
        out = tmp_path / share
        options = ("--calib", text, "--nsamples", 3, "--seqlen", 32, "--rank", 0, "--quiet")
        lrc("compress", model, "-o", out, *options, "--shrinkage", share).check()
        records = PackedCheckpoint.open(out).report["matrices"]
        linear = [r for name, r in records.items() if name.endswith("_proj.weight")]
        assert {record["shrinkage"] for record in linear} == {float(share)}
        errors.append([record["relative_error"] for record in linear])
    assert all(plain != shrunk for plain, shrunk in zip(*errors, strict=True))


def test_errors_on_record_are_of_the_bytes_on_disk(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors are taken before a block is written: a file that holds anything else is refused."""

    def careless(path: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        name = next(name for name in tensors if name.endswith(".codes.0"))
        write_safetensors(path, tensors | {name: tensors[name] ^ 1}, metadata)

    monkeypatch.setattr(block_files, "write_safetensors", careless)
    spec = CompressSpec.from_dict({"calibration": {"files": [str(text)], "nsamples": 2}})
    with pytest.raises(FormatError, match=r"codes\.0 does not read back as it was written"):
        compress(model, tmp_path / "out", spec, threads=1)


def test_a_copy_that_would_stop_elsewhere_is_refused(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(root: Path, files: tuple[Path, ...], folder: Path) -> None:
        copy_side_files(root, files, folder)
        (folder / "generation_config.json").write_text('{"eos_token_id": 5}', encoding="utf-8")

    monkeypatch.setattr(whole, "copy_side_files", careless)
    spec = CompressSpec.from_dict({"calibration": {"files": [str(text)], "nsamples": 2}})
    with pytest.raises(FormatError, match="differ from the source"):
        compress(model, tmp_path / "out", spec, threads=1)
    assert not (tmp_path / "out").exists()


def test_tokens_left_out_of_a_moment_are_on_record(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = SecondMoment.add

    def lossy(self: SecondMoment, chunk: ChunkMoment) -> None:
        add(self, dataclasses.replace(chunk, dropped=chunk.dropped + 1))

    monkeypatch.setattr(SecondMoment, "add", lossy)
    windows = np.random.default_rng(9151).integers(0, 256, (1, 32))  # one chunk a site
    report = compress(model, tmp_path / "out", threads=1, windows=windows)
    assert PackedCheckpoint.open(report.path).report["calibration"]["dropped_rows"] == 8
    assert any("8 activations were not finite" in warning for warning in report.warnings)


def test_pages_of_the_checkpoint_are_given_back_site_by_site(
    lrc: Lrc,
    model: Path,
    text: Path,
    fast: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They count as memory, though nothing reads them again."""
    released: list[int] = []
    monkeypatch.setattr(
        "lrc.pipeline.blocks.release_pages", lambda files: released.append(len(list(files)))
    )
    lrc("compress", model, "-o", tmp_path / "out", "--calib", text, *fast)
    blocks = json.loads((model / "config.json").read_text())["num_hidden_layers"]
    # Before the first site of a block; at each site once targets are made, and once it is solved.
    assert len(released) == blocks * (1 + 2 * 4)
    assert min(released) > 0


def test_every_walk_gives_back_what_it_mapped_block_by_block(
    lrc: Lrc,
    model: Path,
    text: Path,
    fast: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That for the head's metric, which no visitor looks at, as well."""
    given: list[Any] = []
    monkeypatch.setattr("lrc.calibrate.walk.give_back_pages", given.append)
    lrc("compress", model, "-o", tmp_path / "out", "--calib", text, *fast)
    blocks = json.loads((model / "config.json").read_text())["num_hidden_layers"]
    assert len(given) == 2 * blocks
