"""A model with an adapter is the model whose matrices have its product added, on every path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from engine_checks import assert_close
from packed_models import packed_model

import lrc
import lrc.cli.main as cli
from lrc.convert.gguf.adapter import Factors as GgufFactors
from lrc.convert.gguf.adapter import write_adapter as write_gguf_adapter
from lrc.convert.gguf.file import gguf_package
from lrc.convert.gguf.lora import GgufAdapter
from lrc.convert.gguf.written import GgufModel
from lrc.convert.peft import stored_names, write_adapter
from lrc.errors import LrcError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.models import load_model
from lrc.models.adapted import AdaptedSource, Delta
from lrc.models.peft_adapter import PeftAdapter
from lrc.nn.engine import prompt_program
from lrc.nn.linear import DenseLinear
from lrc.refine.adapter import Factors
from lrc.run.generate import Decoder
from lrc_kernels.simd import paths as simd_paths

IDS = np.random.default_rng(5).integers(0, 48, 20)
RANK = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense model, and an adapter of every matrix of it as PEFT has it."""
    made = tmp_path_factory.mktemp("adapters")
    tiny.write_model(made / "dense")
    model = lrc.load(made / "dense").model
    write_adapter(made / "peft", factors_of(model), stored_names(made / "dense"), "base")
    return made


def factors_of(model, scale: float = 0.2) -> dict[str, Factors]:
    """Random ones of every matrix, exact in float16; ranks differ."""
    rng, found = np.random.default_rng(3), {}
    for i, linear in enumerate(model.tensors.matrices):
        m, n = model.tensors.shape(f"{linear}.weight")
        pair = [rng.normal(0, scale, (RANK + i % 2, size)).astype(np.float16) for size in (n, m)]
        found[f"{linear}.weight"] = Factors(*(x.astype(np.float32) for x in pair))
    return found


def summed_logits(model, factors, scale: float = 1.0) -> np.ndarray:
    """Logits of a model whose matrices, as dense ones, have products of factors added."""
    blocks = []
    for part in range(len(model.stacks[0])):
        block, names = model.stacks[0].load_block(part), model.stacks[0].linears(part)
        new = {}
        for key, layer in block.linears.items():
            delta = factors.get(names[key])
            W = layer.weight if isinstance(layer, DenseLinear) else layer.matrix.to_dense()
            W = W if delta is None else W + scale * delta.up.T @ delta.down
            new[key] = DenseLinear(W, layer.bias)
        blocks.append(block.with_linears(new))
    before, model._blocks = model.blocks, tuple(blocks)
    found = model.logits(IDS[None])[0]
    model._blocks = before
    return found


def test_a_dense_model_has_the_product_added(folder: Path) -> None:
    base = lrc.load(folder / "dense").model
    factors = factors_of(base)
    for adapters, scale in (([folder / "peft"], 1.0), ([(folder / "peft", -0.5)], -0.5)):
        loaded = lrc.load(folder / "dense", adapters)
        expected = summed_logits(base, factors, scale)
        np.testing.assert_allclose(loaded.model.logits(IDS[None])[0], expected, atol=2e-4)
        assert any("peft" in note and "rank 3 to 4" in note for note in loaded.model.notes)
    both = lrc.load(folder / "dense", [(folder / "peft", 0.75), (folder / "peft", 0.25)])
    expected = summed_logits(base, factors)
    np.testing.assert_allclose(both.model.logits(IDS[None])[0], expected, atol=2e-4)


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("codebook", [("shuffle12", 2), ("e8p", 2)])
def test_engines_apply_the_factors_beside_the_codes(monkeypatch, codebook, rank) -> None:
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])
    base = packed_model({"intermediate_size": 64}, codebook=codebook, rank=rank)
    factors = factors_of(base)
    added = {name: [Delta(f.down, f.up)] for name, f in factors.items()}
    model = load_model(AdaptedSource(base.source, added, ()))
    assert model.engines().runs_on.startswith("compiled engine")
    expected = summed_logits(base, factors)
    # Over all tokens: attention of random weights makes much of the last bits of a few.
    missed = np.linalg.norm(model.logits(IDS[None])[0] - expected)
    assert missed < 1e-3 * np.linalg.norm(expected)
    decoder = Decoder(model, 32, 1, "i15")
    decoder.advance(IDS[:12])
    found = np.stack([decoder.advance(IDS[i : i + 1]).copy() for i in range(12, 20)])
    assert_close(found, expected[12:], 2.0**-4)


def test_a_gguf_adapter_is_that_of_peft(folder: Path, tmp_path: Path) -> None:
    base = lrc.load(folder / "dense").model
    rules = GgufModel.of(base, gguf_package())
    made = []
    for name, f in factors_of(base).items():
        order = rules.order(name)
        up = f.up.T if order is None else f.up.T[order]
        made.append(GgufFactors(rules.names[name], np.ascontiguousarray(up), f.down))
    write_gguf_adapter(tmp_path / "a.gguf", rules.written.architecture, made)
    found = lrc.load(folder / "dense", [(GgufAdapter(tmp_path / "a.gguf"), 0.5)]).model
    expected = lrc.load(folder / "dense", [(folder / "peft", 0.5)]).model
    ids = IDS[None]
    np.testing.assert_allclose(found.logits(ids), expected.logits(ids), rtol=1e-5, atol=1e-5)
    write_gguf_adapter(tmp_path / "other.gguf", "qwen2", made)
    with pytest.raises(LrcError, match="is for 'qwen2'; this model is 'llama'"):
        lrc.load(folder / "dense", [GgufAdapter(tmp_path / "other.gguf")])
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "a.gguf").read_bytes()[:-9])
    with pytest.raises(LrcError, match="not a readable GGUF file"):
        lrc.load(folder / "dense", [GgufAdapter(tmp_path / "cut.gguf")])


def changed(folder: Path, out: Path, config: dict, tensors: dict) -> Path:
    """A copy of the adapter with changes; None leaves a tensor out."""
    out.mkdir()
    before = json.loads((folder / "peft" / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps({**before, **config}))
    file = SafetensorsFile(folder / "peft" / "adapter_model.safetensors")
    found = {name: np.array(file.read(name)) for name in file.names} | tensors
    kept = {name: x for name, x in found.items() if x is not None}
    write_safetensors(out / "adapter_model.safetensors", kept)
    return out


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type='IA3' is not supported"),
        ({"use_dora": True}, "use_dora=True is not supported"),
        ({"modules_to_save": ["x"]}, "modules_to_save"),
        ({"r": 9}, "gives model.layers.0.*the rank 9"),
        ({"r": 10**30, "rank_pattern": {}}, "the rank 1000"),
        ({"lora_alpha": "much", "alpha_pattern": {}}, "lora_alpha='much' is no number"),
        ({"lora_alpha": 1e999, "alpha_pattern": {}}, "not finite"),
        ({"lora_alpha": 1e308, "alpha_pattern": {}}, "not finite"),
        ({"lora_alpha": 10**400, "alpha_pattern": {}}, "an integer of 401 digits; expected at"),
        ({"rank_pattern": {"(a|b)+$": 2}}, "is not supported; names are"),
        ({"rank_pattern": 3}, "rank_pattern is no object"),
    ],
)
def test_configurations_that_say_more_or_nonsense_are_refused(
    folder: Path, tmp_path: Path, config: dict, said: str
) -> None:
    with pytest.raises(LrcError, match=said):
        lrc.load(folder / "dense", [changed(folder, tmp_path / "a", config, {})])


def test_a_pattern_behind_a_caret_is_a_whole_name(folder: Path, tmp_path: Path) -> None:
    model = lrc.load(folder / "dense").model
    names = [f"model.layers.{i}.self_attn.q_proj" for i in range(2)]
    before = json.loads((folder / "peft" / "adapter_config.json").read_text())["alpha_pattern"]
    patterns = {f"^{names[0]}": 2 * RANK, "^q_proj": 1000} | before
    plain = PeftAdapter(folder / "peft").deltas(model)
    config = {"alpha_pattern": patterns}
    found = PeftAdapter(changed(folder, tmp_path / "a", config, {})).deltas(model)
    for i, name in enumerate(names):
        ratio = found[f"{name}.weight"].up / plain[f"{name}.weight"].up
        np.testing.assert_allclose(ratio, 2.0 if i == 0 else 1.0)


def test_a_scale_beyond_float32_is_refused(folder: Path) -> None:
    with pytest.raises(LrcError, match=r"times 1e\+300 is not finite; give a smaller scale"):
        lrc.load(folder / "dense", [(folder / "peft", 1e300)])


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_"


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({f"{FIRST}A.weight": None}, "has A or B alone of"),
        ({f"{FIRST}A.default.weight": np.zeros((3, 48), np.float32)}, "has two adapters of"),
        ({f"{FIRST}A.weight": np.zeros((3, 47), np.float32)}, "is the adapter of another model"),
        ({f"{FIRST}B.weight": np.full((48, 3), np.nan, np.float16)}, "not finite"),
        ({f"{FIRST}B.weight": np.zeros(3, np.float32)}, "B"),
        ({"base_model.model.lm_head.lora_A.weight": np.zeros((3, 48), np.float32),
          "base_model.model.lm_head.lora_B.weight": np.zeros((258, 3), np.float32)},
         "lm_head is no linear layer of the blocks"),
        ({f"{FIRST}magnitude_vector": np.zeros(3, np.float32)}, "neither A nor B"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, tensors: dict, said: str
) -> None:
    with pytest.raises(LrcError, match=said):
        lrc.load(folder / "dense", [changed(folder, tmp_path / "a", {}, tensors)])


def test_the_command_takes_adapters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["generate", str(folder / "dense"), "-p", "abc", "--temp", "0", "--max-tokens", "9"]

    def text(*more: str) -> str:
        assert cli.main([*given, *more]) == 0
        out, err = capsys.readouterr()
        assert all("peft" in err for _ in more[:1])
        return out

    plain, adapted = text(), text("--adapter", str(folder / "peft"))
    assert plain != adapted
    assert text("--adapter", f"{folder / 'peft'}=0") == plain
    half = f"{folder / 'peft'}=0.5"
    assert text("--adapter", half, "--adapter", half) == adapted
    for wrong, said in (
        (f"{folder / 'peft'}=much", "'much' is no number"),
        ("nowhere", "neither a directory of PEFT nor a GGUF file"),
        (str(folder / "dense"), "adapter_config.json"),
    ):
        assert cli.main([*given, "--adapter", wrong]) == 1
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.filterwarnings("default")  # of transformers' own
def test_peft_computes_the_same(folder: Path, tmp_path: Path) -> None:
    """Of adapters with alpha, patterns and roots of ranks that PEFT itself has written."""
    torch = pytest.importorskip("torch", reason="extra parity")
    peft = pytest.importorskip("peft", reason="extra parity")
    transformers = pytest.importorskip("transformers", reason="extra parity")
    ids = torch.from_numpy(IDS[None])
    for i, options in enumerate(
        (
            {"r": 4, "lora_alpha": 8, "rank_pattern": {"down_proj": 2}},
            {"r": 3, "lora_alpha": 5, "use_rslora": True, "alpha_pattern": {"q_proj": 7}},
        )
    ):
        base = transformers.AutoModelForCausalLM.from_pretrained(
            folder / "dense", dtype=torch.float32
        )
        targets = ["q_proj", "v_proj", "down_proj"]
        made = peft.get_peft_model(
            base, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=targets, **options)
        ).eval()
        torch.manual_seed(1)
        with torch.no_grad():
            for name, weight in made.named_parameters():
                if "lora_B" in name:
                    weight.normal_(0, 0.3)
            theirs = made(ids).logits[0].numpy()
        made.save_pretrained(tmp_path / str(i))
        mine = lrc.load(folder / "dense", [tmp_path / str(i)]).model.logits(IDS[None])[0]
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)
