"""Parameters of single matrices by patterns of their names."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from lrc.cli.commands.effort_options import chosen
from lrc.cli.main import StandardConsole, build_parser
from lrc.errors import SpecError
from lrc.spec import CompressSpec, LowRankSpec, MatrixSpec, QuantSpec
from lrc.spec.settings import Setting, with_settings

NAMES = [f"model.layers.{i}.{key}" for i in range(12) for key in ("self_attn.q_proj", "mlp.up")]


def applied(*texts: str, spec: CompressSpec | None = None) -> dict[str, MatrixSpec]:
    settings = [Setting.parse(text) for text in texts]
    return with_settings(spec or CompressSpec(), NAMES, settings).matrices


def test_matrices_whose_names_have_the_pattern_get_it() -> None:
    found = applied(r"layers\.(0|11)\.mlp:bits=4,rank=16")
    assert list(found) == ["model.layers.0.mlp.up", "model.layers.11.mlp.up"]
    (one,) = set(found.values())
    assert (one.quant.bits, one.low_rank.rank, one.low_rank.keep) == (4, 16, 0.0)
    assert one.quant.codebook == QuantSpec.for_bits(4).codebook
    assert one.reason == r"set: layers\.(0|11)\.mlp:bits=4,rank=16"


def test_later_settings_change_what_earlier_ones_left() -> None:
    found = applied("up:rank=8,factor-bits=6", r"layers\.3\.:codebook=uniform, bits=5")
    third, other = found["model.layers.3.mlp.up"], found["model.layers.4.mlp.up"]
    assert third.low_rank == other.low_rank == LowRankSpec(8, 6)
    assert third.quant == QuantSpec("uniform", 5)
    assert other.quant == CompressSpec().decompose.quant
    assert found["model.layers.3.self_attn.q_proj"].low_rank == LowRankSpec()


def test_what_the_spec_says_of_a_matrix_stays_but_for_what_is_set() -> None:
    own = MatrixSpec(QuantSpec("e8p", 2), LowRankSpec(keep=0.5), "survey")
    spec = CompressSpec(matrices={NAMES[0]: own})
    (found,) = applied(r"layers\.0\.self_attn:rank=auto", spec=spec).values()
    assert found.quant == own.quant
    assert (found.low_rank.rank, found.low_rank.keep) == ("auto", 0.0)
    assert spec.matrices == {NAMES[0]: own}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("q_proj", "is no setting"),
        ("q_proj:", "is no setting"),
        (":bits=4", "is no setting"),
        ("(:bits=4", "is no regular expression"),
        ("q_proj:bitz=4", "'bitz' cannot be set"),
        ("q_proj:bits", "bits cannot be ''"),
        ("q_proj:rank=many", "rank cannot be 'many'"),
        ("q_proj:bits=99", "out of range"),
        ("q_proj:codebook=none", "codebook 'none' is unknown"),
        ("q_proj:rank=-1", "must be 'auto'"),
        ("k_proj:bits=4", "is of no matrix; names look like model.layers.0.self_attn.q_proj"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says.replace("(", r"\(")):
        applied(text)


@given(st.sampled_from(NAMES), st.integers(2, 8), st.integers(0, 99))
def test_a_whole_name_is_a_pattern_of_itself(name: str, bits: int, rank: int) -> None:
    found = applied(f"^{name}$:bits={bits},rank={rank}")
    assert list(found) == [name]
    assert (found[name].quant.bits, found[name].low_rank.rank) == (bits, rank)


def test_set_reaches_the_matrices_of_the_model_that_is_given(tmp_path: Path) -> None:
    """Whatever else was chosen: here a recipe, and there a width of its own for every matrix."""
    model = tiny.write_model(tmp_path / "model")
    arguments = ("compress", str(model), "-o", "x", "--set", r"layers\.1\..*down:bits=5,rank=3")
    for more in ((), ("--bits", "3"), ("--recipe", "qera", "--rank", "8")):
        args = build_parser().parse_args([*arguments, *more])
        spec, _ = chosen(args, StandardConsole(quiet=True))
        name, own = spec.matrices.popitem()
        assert (name, spec.matrices) == ("model.layers.1.mlp.down_proj", {})
        assert (own.quant.bits, own.low_rank.rank) == (5, 3)
        assert spec.decompose.quant.bits != 5
