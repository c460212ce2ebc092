"""Parameter records: validated, frozen, and the same after a trip through JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from codebook_cases import EVERY
from hypothesis import given
from hypothesis import strategies as st

from lrc.errors import SpecError
from lrc.quant import get_quantizer
from lrc.run.sampler import Sampler
from lrc.spec import (
    RECIPES,
    ROTATIONS,
    STREAMS,
    AllocationSpec,
    CalibrationSpec,
    CompressSpec,
    DecomposeSpec,
    LowRankSpec,
    MatrixSpec,
    QuantSpec,
)

FACTOR_BITS = [2, 3, 4, 5, 6, 7, 8, 16]
QUANT = st.one_of(
    st.sampled_from([2, 3, 4]).map(QuantSpec.plain),
    st.builds(
        QuantSpec, st.sampled_from(["uniform", "lloyd-max"]), st.integers(2, 8), st.integers(0, 256)
    ),
)
LOW_RANK = st.builds(
    LowRankSpec, st.one_of(st.just("auto"), st.integers(0, 500)), st.sampled_from(FACTOR_BITS)
)
SHARES = st.floats(0, 1, exclude_max=True)
DECOMPOSE = st.builds(
    DecomposeSpec,
    recipe=st.sampled_from(RECIPES),
    quant=QUANT,
    low_rank=LOW_RANK,
    rotation=st.sampled_from(ROTATIONS),
    damping=SHARES,
    iterations=st.integers(1, 20),
    inner_iterations=st.integers(1, 20),
    polish_sweeps=st.just("auto") | st.integers(0, 20),
    tolerance=SHARES,
    seed=st.integers(0, 2**63),
)
CALIBRATION = st.builds(
    CalibrationSpec,
    files=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    nsamples=st.integers(1, 10**6),
    seqlen=st.integers(2, 10**6),
    streams=st.sampled_from(STREAMS),
    mix=st.floats(0, 1),
    repair=st.floats(0, 1),
    shrinkage=st.just("auto") | st.floats(0, 0.99),
)
TABLE_BITS = st.sampled_from(["auto", 4, 5, 6, 7, 8, 16])
ALLOCATION = st.builds(
    AllocationSpec,
    bits_per_weight=st.floats(0.1, 20),
    passes=st.integers(1, 1000),
    generations=st.integers(0, 100),
) | st.builds(AllocationSpec, file_bytes=st.integers(1, 2**50))
MATRIX = st.builds(MatrixSpec, quant=QUANT, low_rank=LOW_RANK, reason=st.text(max_size=9))
COMPRESS = st.builds(
    CompressSpec,
    matrices=st.dictionaries(st.text(max_size=9), MATRIX, max_size=2),
    decompose=DECOMPOSE,
    calibration=CALIBRATION,
    embed_bits=TABLE_BITS,
    head_bits=TABLE_BITS,
)


@given(spec=st.one_of(COMPRESS, DECOMPOSE, CALIBRATION, QUANT, LOW_RANK, MATRIX, ALLOCATION))
def test_json_round_trip(spec):
    back = type(spec).from_dict(json.loads(json.dumps(spec.to_dict())))
    assert back == spec
    assert hash(back) == hash(spec)


@given(spec=COMPRESS)
def test_to_dict_holds_plain_values_only(spec):
    def plain(value):
        if isinstance(value, dict):
            return all(type(k) is str and plain(v) for k, v in value.items())
        if isinstance(value, list | tuple):
            return all(plain(v) for v in value)
        return value is None or type(value) in (str, int, float, bool)

    assert plain(spec.to_dict())


def test_what_is_left_out_keeps_its_default():
    assert CompressSpec.from_dict({}) == CompressSpec()
    spec = CompressSpec.from_dict({"decompose": {"low_rank": {"rank": 4}}})
    assert spec.decompose.low_rank == LowRankSpec(rank=4)
    assert spec.decompose.quant == QuantSpec()
    assert spec.calibration == CalibrationSpec()


@pytest.mark.parametrize(
    ("kind", "values", "name"),
    [
        (QuantSpec, {"bit": 2}, "QuantSpec has no parameter bit"),
        (CompressSpec, {"nsamples": 2}, "CompressSpec has no parameter nsamples"),
        (CompressSpec, {"decompose": {"quant": {"x": 1}}}, "QuantSpec has no parameter x"),
        (DecomposeSpec, {"b": 1, "a": 2}, "no parameter a, b; known: recipe, quant"),
    ],
)
def test_unknown_names_are_refused(kind, values, name):
    with pytest.raises(SpecError, match=name):
        kind.from_dict(values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (DecomposeSpec, {"iterations": "3"}),
        (DecomposeSpec, {"iterations": 2.5}),
        (DecomposeSpec, {"iterations": True}),
        (DecomposeSpec, {"damping": "0.1"}),
        (DecomposeSpec, {"damping": None}),
        (DecomposeSpec, {"quant": "e8p"}),
        (DecomposeSpec, {"quant": 3}),
        (DecomposeSpec, {"recipe": 3}),
        (DecomposeSpec, {"recipe": ["caldera"]}),
        (QuantSpec, {"bits": 2.0}),
        (LowRankSpec, {"rank": 8.0}),
        (LowRankSpec, {"rank": True}),
        (LowRankSpec, {"rank": None}),
        (CalibrationSpec, {"files": "text.txt"}),
        (CalibrationSpec, {"files": [1]}),
        (CompressSpec, {"calibration": []}),
    ],
    ids=str,
)
def test_wrong_types_are_refused_however_they_come(kind, values):
    for make in (lambda: kind(**values), lambda: kind.from_dict(values)):
        with pytest.raises(SpecError, match=rf"{kind.__name__}: {next(iter(values))}=.* must be "):
            make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantSpec("trellis12", 2.5), "QuantSpec: bits=2.5 must be an integer"),
        (lambda: QuantSpec(TABLE_BITS), "QuantSpec: codebook=.* must be a string"),
        (lambda: LowRankSpec(True), "LowRankSpec: rank=True must be 'auto' or an integer"),
        (lambda: LowRankSpec("full"), "rank='full' must be 'auto' or an integer"),
        (lambda: CalibrationSpec(nsamples=2.5), "nsamples=2.5 must be an integer"),
        (lambda: CalibrationSpec(mix="0.4"), "mix='0.4' must be a number"),
        (lambda: CalibrationSpec(mix=True), "mix=True must be a number"),
        (lambda: CalibrationSpec(files="a.txt"), "files='a.txt' must be a list, each a string"),
        (lambda: CalibrationSpec(files=(Path("a"),)), "files=.* must be a list, each a string"),
        (lambda: DecomposeSpec(refit_scales=1), "refit_scales=1 must be True or False"),
        (lambda: DecomposeSpec(quant={"bits": 2}), "quant=.* must be a QuantSpec"),
        (lambda: CompressSpec(matrices={"a": QuantSpec()}), "matrices=.*each a MatrixSpec"),
        (lambda: CompressSpec(matrices={3: MatrixSpec()}), "matrices=.*each a MatrixSpec"),
        (lambda: CompressSpec(matrices=[]), "matrices=.*a dictionary"),
        (lambda: CompressSpec(CalibrationSpec()), "decompose=.*must be a DecomposeSpec"),
        (lambda: AllocationSpec(bits_per_weight="3"), "bits_per_weight='3' must be a number"),
        (lambda: AllocationSpec(3.0, passes=2.0), "passes=2.0 must be an integer"),
        (lambda: Sampler("0.7"), "Sampler: temperature='0.7' must be a number"),
        (lambda: Sampler(seed=None), "Sampler: seed=None must be an integer"),
    ],
)
def test_direct_construction_is_checked(make, message):
    with pytest.raises(SpecError, match=message):
        make()


def test_numbers_of_numpy_and_lists_become_plain():
    spec = CalibrationSpec(["a.txt"], np.int64(3), mix=np.float32(0.5), shrinkage=np.float16(0.25))
    assert spec == CalibrationSpec(("a.txt",), 3, mix=0.5, shrinkage=0.25)
    assert hash(spec) == hash(CalibrationSpec(("a.txt",), 3, mix=0.5, shrinkage=0.25))
    assert [type(v) for v in (spec.nsamples, spec.mix, spec.shrinkage)] == [int, float, float]
    json.dumps(spec.to_dict())


def test_whole_numbers_stand_for_fractions():
    assert DecomposeSpec.from_dict({"damping": 0}).damping == 0


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (QuantSpec, {"codebook": "e9"}, "'e9' is unknown; use one of e8p"),
        (
            QuantSpec,
            {"codebook": "e8p", "bits": 3},
            "bits=3 is out of range for codebook e8p; use 2",
        ),
        (QuantSpec, {"codebook": "e8p-rvq4", "bits": 2}, "codebook e8p-rvq4; use 4"),
        (QuantSpec, {"codebook": "uniform", "bits": 1}, "bits=1 is out of range"),
        (QuantSpec, {"codebook": "uniform", "bits": 9}, "bits=9 is out of range"),
        (QuantSpec, {"codebook": "uniform", "group_size": -1}, "group_size=-1"),
        (QuantSpec, {"group_size": 64}, "one scale a matrix"),
        (LowRankSpec, {"rank": -1}, "rank=-1"),
        (LowRankSpec, {"rank": "full"}, "rank='full' must be 'auto'"),
        (LowRankSpec, {"factor_bits": 1}, "factor_bits=1"),
        (LowRankSpec, {"factor_bits": 12}, "2 to 8, or 16"),
        (DecomposeSpec, {"recipe": "magic"}, "recipe 'magic' is unknown; use one of caldera"),
        (DecomposeSpec, {"rotation": "dct"}, "rotation 'dct' is unknown"),
        (DecomposeSpec, {"damping": -0.1}, "damping=-0.1"),
        (DecomposeSpec, {"damping": 1.0}, "damping=1.0"),
        (DecomposeSpec, {"damping": float("nan")}, "damping=nan"),
        (DecomposeSpec, {"iterations": 0}, "iterations=0"),
        (DecomposeSpec, {"inner_iterations": 0}, "inner_iterations=0"),
        (DecomposeSpec, {"polish_sweeps": -1}, "polish_sweeps=-1"),
        (DecomposeSpec, {"tolerance": 1.0}, "tolerance=1.0"),
        (DecomposeSpec, {"seed": -1}, "seed=-1"),
        (CalibrationSpec, {"nsamples": 0}, "nsamples=0"),
        (CalibrationSpec, {"seqlen": 1}, "seqlen=1"),
        (CalibrationSpec, {"streams": "both"}, "streams 'both' is unknown"),
        (CalibrationSpec, {"mix": 1.5}, "mix=1.5"),
        (CalibrationSpec, {"mix": float("nan")}, "mix=nan"),
        (CalibrationSpec, {"repair": -0.1}, "repair=-0.1"),
        (CalibrationSpec, {"shrinkage": 1.0}, "shrinkage=1.0"),
        (CalibrationSpec, {"shrinkage": "much"}, "shrinkage='much'"),
        (CompressSpec, {"embed_bits": 3}, "embed_bits=3"),
        (CompressSpec, {"head_bits": 9}, "head_bits=9"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_however_they_come(kind, values, message):
    for make in (lambda: kind(**values), lambda: kind.from_dict(values)):
        with pytest.raises(SpecError, match=message):
            make()
    with pytest.raises(SpecError):
        dataclasses.replace(kind(), **values)


@pytest.mark.parametrize("spec", [QuantSpec(), LowRankSpec(), DecomposeSpec(), CompressSpec()])
def test_specs_are_frozen(spec):
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.bits = 3


@pytest.mark.parametrize("bits", range(2, 9))
def test_default_codebook_of_a_width(bits):
    spec = QuantSpec.for_bits(bits)
    assert spec.bits == bits
    assert spec.codebook == ("shuffle12" if bits <= 4 else "lloyd-max")
    assert QuantSpec.plain(bits).codebook == {2: "e8p", 3: "e8p-rvq3", 4: "e8p-rvq4"}.get(
        bits, "lloyd-max"
    )
    assert get_quantizer(spec).bits == bits


@pytest.mark.parametrize(
    ("name", "bits", "shape", "expected", "why"),
    [
        ("shuffle12", 2, (64, 64), "shuffle12", ""),
        ("shuffle12", 2, (32, 62), "shuffle12", ""),
        ("shuffle12", 3, (48, 64), "trellis12", "needs rows in multiples of 32, not 48"),
        ("shuffle12", 3, (32, 70), "trellis12", "stores 128 columns of 70"),
        ("shuffle12", 3, (256, 70), "shuffle12", ""),
        ("shuffle10", 2, (16, 64), "trellis10", "needs rows in multiples of 32, not 16"),
        ("shuffle12", 4, (24, 64), "e8p-rvq4", "needs rows in multiples of 32, not 24"),
        ("trellis12", 2, (24, 64), "e8p", "needs rows in multiples of 16, not 24"),
        ("uniform", 2, (24, 64), "uniform", ""),
    ],
)
def test_what_does_not_fit_a_shape_has_the_nearest_kin_and_a_note(name, bits, shape, expected, why):
    quant, notes = QuantSpec(name, bits).for_shape(*shape)
    assert quant == QuantSpec(expected, bits)
    assert notes == ((f"codebook {name} {why}: {expected} instead",) if why else ())


def test_every_quantizer_has_a_spec():
    assert [(QuantSpec(*key).codebook, key[1]) for key in EVERY] == EVERY


@pytest.mark.parametrize(
    ("given", "beside", "expected"),
    [
        ({}, 0.0, (4, 4)),
        ({"decompose": DecomposeSpec(quant=QuantSpec(bits=3))}, 0.0, (5, 5)),
        ({}, 2.4, (4, 4)),
        ({}, 4.0, (6, 6)),
        ({"embed_bits": 4}, 4.0, (4, 4)),
        ({"embed_bits": 5, "head_bits": 16}, 0.0, (5, 16)),
        ({"head_bits": 5}, 0.0, (4, 5)),
        ({"decompose": DecomposeSpec(rotation="none")}, 0.0, (6, 6)),
        ({"decompose": DecomposeSpec(recipe="round-to-nearest")}, 4.0, (8, 8)),
    ],
)
def test_automatic_tables_are_wide_beside_wide_matrices(given, beside, expected):
    spec = CompressSpec(**given)
    assert spec.table_bits(beside) == expected
    written = spec.with_table_bits(beside)
    assert (written.embed_bits, written.head_bits) == expected
    assert written.table_bits() == expected


def test_moments_of_fewer_tokens_are_shrunk_more() -> None:
    shares = [CalibrationSpec().shrinkage_for(tokens) for tokens in (1, 8192, 32768, 131072)]
    assert shares == pytest.approx([0.5, 0.2, 0.1, 0.05])
    assert CalibrationSpec(shrinkage=0.3).shrinkage_for(7) == 0.3
