"""An adapter learns a task, is the same for any number of threads, and is what PEFT reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from packed_cases import random_matrix

import lrc
import lrc.cli.main as cli
from lrc.errors import LrcError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.nn.linear import DenseLinear
from lrc.nn.ops import Multiply, Pass
from lrc.parts.low_rank import LowRank
from lrc.refine.adapted import start, weight_size
from lrc.refine.adapter import AdaptedLinear
from lrc.refine.lora import LoraSpec, learn_adapter
from lrc.refine.opened import opened, opened_matrix
from lrc.refine.task import UNSCORED, LabelLoss, read_examples
from lrc.run.text import Tokenizer
from lrc.spec import CalibrationSpec, CompressSpec, DecomposeSpec, LowRankSpec, QuantSpec
from lrc.testing.gradients import check_rule
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

RANK = 6


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dense model, the same compressed, and a task of 200 lines."""
    folder = tmp_path_factory.mktemp("lora")
    tiny.write_model(folder / "dense")
    text = str(tiny.write_text(folder / "text.txt"))
    spec = CompressSpec(
        decompose=DecomposeSpec(quant=QuantSpec("e8p", 2), low_rank=LowRankSpec(rank=2)),
        calibration=CalibrationSpec(files=(text,), nsamples=4, seqlen=64),
    )
    lrc.compress(folder / "dense", folder / "packed", spec, threads=1)
    rng = np.random.default_rng(3)
    with (folder / "task.jsonl").open("w") as stream:
        for _ in range(200):
            a, b = rng.integers(0, 9, 2)
            line = {"prompt": f"{a}+{b}=", "completion": f"{a + b:02d}"}
            stream.write(json.dumps(line) + "\n")
    return folder


def spec_of(models: Path, **changes) -> LoraSpec:
    given = {"task": str(models / "task.jsonl"), "rank": RANK, "passes": 2, "held_out": 20}
    return LoraSpec(**{**given, **changes})


@pytest.mark.parametrize("inner", ["dense", "packed"])
def test_an_adapted_layer_has_the_slope_of_its_rule(inner: str) -> None:
    rng = np.random.default_rng(1)
    factors = [rng.standard_normal((3, size)).astype(np.float32) for size in (20, 12)]
    layer = (
        DenseLinear(rng.standard_normal((12, 20)).astype(np.float32))
        if inner == "dense"
        else opened_matrix(random_matrix((12, 20)))
    )
    op = Multiply((AdaptedLinear(layer, *factors),), "x", ("y",))
    values = {"x": rng.standard_normal((2, 3, 20)).astype(np.float32)}
    check_rule(op, values, Pass(np.arange(3)), 5)


def test_an_adapter_begins_with_the_first_components_and_adds_nothing() -> None:
    matrix = random_matrix((12, 20), rank=2)
    layer = opened_matrix(matrix)
    found = start(layer, 5, np.random.default_rng(0))
    assert found.down.shape == (5, 20)
    assert not found.up.any()
    (low_rank,) = (part for part in matrix.parts if isinstance(part, LowRank))
    basis = np.linalg.svd(replace(matrix, parts=(low_rank,)).to_dense())[2][:2]
    np.testing.assert_allclose(found.down[:2] @ basis.T @ basis, found.down[:2], atol=1e-5)
    size = np.sqrt(np.mean(matrix.to_dense() ** 2))
    np.testing.assert_allclose(weight_size(layer), size, rtol=1e-4)


def test_labels_are_the_completion_and_the_end(models: Path) -> None:
    tokenizer = Tokenizer.open(models / "packed")
    first = read_examples(models / "task.jsonl", tokenizer, 512)[0]
    completion = json.loads((models / "task.jsonl").read_text().splitlines()[0])["completion"]
    labels = first.labels[first.labels != UNSCORED]
    assert tokenizer.decode(labels) == completion
    assert labels[-1] in tokenizer.eos_ids
    assert len(labels) < len(first.labels)
    np.testing.assert_array_equal(first.ids[1:][first.labels[:-1] != UNSCORED], labels[:-1])


def test_the_loss_of_labels_has_its_gradient() -> None:
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((6, 9))
    labels = np.array([[3, UNSCORED, 0], [UNSCORED, 8, 1]], np.int32)
    loss = LabelLoss([labels], 0.25)
    value, g = loss(0, slice(0, 6), logits.copy())
    assert not g[[1, 3]].any()
    direction = rng.standard_normal(logits.shape)
    step = 1e-6
    up, down = (loss(0, slice(0, 6), logits + s * direction)[0] for s in (step, -step))
    assert (up - down) / (2 * step) == pytest.approx(float((g * direction).sum()), rel=1e-6)
    parts = [loss(0, rows, logits[rows].copy())[0] for rows in (slice(0, 2), slice(2, 6))]
    assert sum(parts) == pytest.approx(value)


def test_the_loss_falls_and_threads_change_no_bit(models: Path) -> None:
    before = {p.name: p.read_bytes() for p in (models / "packed").iterdir()}
    one = learn_adapter(models / "packed", models / "dense", spec_of(models), threads=1)
    two = learn_adapter(models / "packed", models / "dense", spec_of(models), threads=3)
    assert one.after < 0.8 * one.before
    assert {p.name: p.read_bytes() for p in (models / "packed").iterdir()} == before
    for name, pair in one.factors.items():
        for mine, theirs in zip(pair, two.factors[name], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_original_may_count_too(models: Path) -> None:
    plain, both = (
        learn_adapter(models / "packed", models / "dense", spec_of(models, passes=1, kl=kl))
        for kl in (0.0, 1.0)
    )
    assert both.before > plain.before
    assert both.after < both.before


def with_adapter(folder: Path, adapter: Path) -> dict[str, np.ndarray]:
    """Weights of a dense directory with an adapter in PEFT's layout added."""
    file = SafetensorsFile(adapter / "adapter_model.safetensors")
    found = {}
    for name in file.names:
        if name.endswith("lora_A.weight"):
            stem = name.removesuffix("lora_A.weight")
            product = file.float32(f"{stem}lora_B.weight") @ file.float32(name)
            found[stem.removeprefix("base_model.model.") + "weight"] = product
    return found


def test_the_command_writes_an_adapter(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    given = ["tune", str(models / "packed"), "--against", str(models / "dense")]
    lora = ["--what", "lora", "--task", str(models / "task.jsonl"), "--lora-rank", str(RANK)]
    assert cli.main([*given, *lora, "--passes", "1", "-o", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["after"] < said["before"]
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == RANK
    deltas = with_adapter(models / "packed", out)
    assert len(deltas) == 14
    assert {name.split(".")[-2] for name in deltas} == set(config["target_modules"])
    assert all(delta.any() for delta in deltas.values())
    assert cli.main([*given, *lora, "-o", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
    for wrong, message in (
        ([*lora], "needs --task FILE, and -o DIR"),
        (["--what", "lora,norms"], "alone"),
        (["-o", "x"], "of --what lora"),
    ):
        assert cli.main([*given, *wrong]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"), [("{}", '"prompt" and "completion"'), ("nonsense", "no JSON")]
)
def test_a_line_that_is_no_example_is_named(
    models: Path, tmp_path: Path, line: str, said: str
) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text('{"text": "a b c"}\n' + line + "\n")
    with pytest.raises(LrcError, match=f"line 2.*{said}"):
        learn_adapter(models / "packed", models / "dense", spec_of(models, task=str(path)))


@pytest.mark.filterwarnings("default")  # of transformers' own
def test_peft_computes_the_same(models: Path, tmp_path: Path) -> None:
    """Logits over the exported base are those of the compressed model with its adapter."""
    torch = pytest.importorskip("torch", reason="extra parity")
    peft = pytest.importorskip("peft", reason="extra parity")
    transformers = pytest.importorskip("transformers", reason="extra parity")
    from lrc.convert import export
    from lrc.convert.peft import stored_names, write_adapter

    found = learn_adapter(models / "packed", models / "dense", spec_of(models, passes=1))
    names = stored_names(models / "packed")
    write_adapter(tmp_path / "adapter", found.factors, names, "base")
    export(models / "packed", tmp_path / "base")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids = np.random.default_rng(5).integers(0, 256, (1, 24))
    with torch.no_grad():
        theirs = model(torch.from_numpy(ids)).logits.numpy()
    mine = adapted_logits(tmp_path / "base", found.factors, ids)
    assert_within(relative_difference(mine, theirs), 1e-3, "logits")
    packed = adapted_logits(models / "packed", found.factors, ids)
    assert_within(relative_difference(packed, theirs), 4e-3, "logits over rounded weights")
    with torch.no_grad(), model.disable_adapter():
        assert relative_difference(model(torch.from_numpy(ids)).logits.numpy(), mine) > 1e-2


def adapted_logits(folder: Path, factors, ids: np.ndarray) -> np.ndarray:
    """Logits of a model, dense or compressed, with an adapter beside its layers."""
    model = lrc.load(folder).model
    blocks = []
    for part, block in enumerate(model.blocks):
        names = model.stacks[0].linears(part)
        adapted = {
            key: AdaptedLinear(opened(layer), *factors[names[key]])
            for key, layer in block.linears.items()
        }
        blocks.append(block.with_linears(adapted))
    model._blocks = tuple(blocks)
    return model.logits(ids)


def test_an_adapted_layer_is_the_sum() -> None:
    """The bound of the products beside a layer is that of its own."""
    rng = np.random.default_rng(9)
    down, up = (rng.standard_normal((4, n)).astype(np.float32) for n in (30, 12))
    W = rng.standard_normal((12, 30)).astype(np.float32)
    x = rng.standard_normal((5, 30)).astype(np.float32)
    expected = x.astype(np.float64) @ (W + up.T.astype(np.float64) @ down).T
    got = AdaptedLinear(DenseLinear(W), down, up)(x)
    assert_within(relative_difference(got, expected), factor_bound(30, np.float32))
