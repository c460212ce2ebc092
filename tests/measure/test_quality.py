"""Figures kept beside a model, and what its bytes are spent on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import tiny
from safetensors import safe_open

import lrc
from lrc.errors import FormatError
from lrc.measure.breakdown import breakdown
from lrc.measure.quality import KeptEvaluation, keep, kept_quality, model_digest
from lrc.measure.samples import PROMPTS, Sample, samples
from lrc.parts.fields import QUALITY
from lrc.parts.packed import PackedCheckpoint

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
ONE = KeptEvaluation("", "a.txt", "12", 8, 2, 8, "all", "i8", perplexity=3.5, kl_interval=(0.1, 1))


@pytest.fixture
def model(tmp_path: Path) -> PackedCheckpoint:
    return PackedCheckpoint.open(shutil.copytree(GOLDEN / "v2" / "model", tmp_path / "model"))


def with_quality(model: PackedCheckpoint, **changes: object) -> PackedCheckpoint:
    text = (GOLDEN / "quality" / QUALITY).read_text().replace("MODEL", model_digest(model))
    (model.path / QUALITY).write_text(json.dumps(json.loads(text) | changes))
    return model


def test_version_1_is_read(model: PackedCheckpoint) -> None:
    (found,) = kept_quality(with_quality(model)).evaluations
    assert found.perplexity_ratio == 1.53125
    assert found.perplexity_ratio_interval == (1.4375, 1.625)
    assert (found.text, found.windows, found.activations) == ("wiki.txt", 40, "i8")


def test_what_is_kept_is_read_and_gives_way_to_the_same(model: PackedCheckpoint) -> None:
    first = dataclasses.replace(ONE, model=model_digest(model))
    other = dataclasses.replace(first, ctx=16)
    again = dataclasses.replace(first, perplexity=4.0)
    for one in (first, other, again):
        keep(model, one)
    assert kept_quality(model).evaluations == (other, again)
    assert QUALITY not in {path.name for path in model.other_files()}


def test_figures_of_before_a_change_are_not_shown_but_counted(model: PackedCheckpoint) -> None:
    with_quality(model)
    manifest = model.path / "lrc.json"
    others = {"warnings": ["of a side file"], "library": "later"}
    for changes, outdated in ((others, 0), ({"tuned": [{"run": "a"}]}, 1)):
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
        assert kept_quality(model).outdated == outdated
    found = kept_quality(model)
    assert (found.evaluations, found.outdated) == ((), 1)
    keep(model, dataclasses.replace(ONE, model=model_digest(model)))
    assert kept_quality(model).outdated == 0


@pytest.mark.parametrize(
    "changes",
    [{"format": "other"}, {"version": 2}, {"evaluations": [{"text": 1}]}, {"evaluations": [7]}],
)
def test_other_files_are_refused(model: PackedCheckpoint, changes: dict[str, object]) -> None:
    with pytest.raises(FormatError, match="evaluate again"):
        kept_quality(with_quality(model, **changes))


def by_suffix(folder: Path, names: list[str]) -> Counter[str]:
    """Bytes of tensors of the blocks, by the last part of their names."""
    found: Counter[str] = Counter()
    kinds = {"scales": "scales", "gain": "signs and gains", "weight": "not compressed"}
    kinds |= {"signs_in": "signs and gains", "signs_out": "signs and gains"}
    for name in names:
        with safe_open(folder / name, "numpy") as file:
            for tensor in file.keys():  # noqa: SIM118
                array, last = file.get_tensor(tensor), tensor.rsplit(".", 1)[-1]
                found[kinds.get(last, "codes" if last.isdigit() else "low rank")] += array.nbytes
    return found


@pytest.mark.parametrize("name", ["v1", "v2", "text"])
def test_every_byte_is_spent_on_something(name: str) -> None:
    source = PackedCheckpoint.open(GOLDEN / name / "model")
    found = breakdown(source)
    assert sum(found.values()) == source.nbytes
    expected = by_suffix(source.path, source.report["files"][1:])
    for what in ("codes", "scales", "low rank", "signs and gains"):
        assert found[what] == expected[what] > 0
    assert found["not compressed"] > expected["not compressed"] > 0


def test_answers_stay_until_others_come_and_go_with_the_model(model: PackedCheckpoint) -> None:
    digest = model_digest(model)
    first = Sample(digest, "original", "Why?", True, "So.", "For.")
    one = dataclasses.replace(ONE, model=digest)
    keep(model, one, [first])
    keep(model, dataclasses.replace(one, ctx=16))
    assert kept_quality(model).samples == (first,)
    other = dataclasses.replace(first, compressed="Hm.")
    keep(model, one, [other])
    assert kept_quality(model).samples == (other,)
    with_quality(model, samples=[dataclasses.replace(first, model="before").to_dict()])
    assert kept_quality(model).samples == ()
    with_quality(model, samples=[{"prompt": 3}])
    with pytest.raises(FormatError, match="evaluate again"):
        kept_quality(model)


def test_both_models_answer_the_same_prompts(tmp_path: Path) -> None:
    loaded = lrc.load(tiny.write_model(tmp_path / "model", num_hidden_layers=1))
    found = list(samples(loaded, loaded, model="a", against="b", tokens=5, threads=1))
    assert [one.prompt for one in found] == list(PROMPTS)
    for one in found:
        assert one.original == one.compressed
        assert (one.chat, one.model, one.against) == (True, "a", "b")
    asked = [{"role": "user", "content": PROMPTS[0]}]
    greedy = "".join(loaded.generate(asked, 5, lrc.Sampler(temperature=0.0), threads=1))
    assert found[0].compressed == greedy
    bare = tiny.write_model(tmp_path / "bare", num_hidden_layers=1)
    (bare / "tokenizer_config.json").unlink()
    plain = lrc.load(bare)
    (first, *_) = samples(plain, loaded, model="a", against="b", tokens=5, threads=1)
    assert not first.chat
