"""What decides how sums are rounded, and what makes that the same everywhere."""

from __future__ import annotations

import pytest

from lrc.base import arithmetic as module
from lrc.base.arithmetic import arithmetic, portable_environment, require_portable
from lrc.errors import SpecError

pytestmark = pytest.mark.skipif(
    module.processor() != "x86_64" or not module._has("AVX2"), reason="of processors with AVX2"
)


def test_the_environment_names_kernels_and_leaves_out_what_some_processors_lack() -> None:
    wanted = portable_environment()
    assert wanted["OPENBLAS_CORETYPE"] == "Haswell"
    left_out = wanted["NPY_DISABLE_CPU_FEATURES"].split()
    assert left_out
    assert not {"AVX2", "FMA3", "X86_V2", "X86_V3"} & set(left_out)
    assert all("512" in name or name in ("X86_V4", "FMA4", "XOP") for name in left_out)


def test_what_is_told_is_what_is_in_force() -> None:
    found = arithmetic()
    assert found["processor"] == "x86_64"
    assert found["blas"] == sorted(set(found["blas"]))
    assert all(module._has(name) for name in found["numpy"])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("processor", lambda: "riscv64", "the processor is a riscv64"),
        ("blas_cores", tuple, "another BLAS than the OpenBLAS of its wheels"),
        ("blas_is_controlled", lambda: False, "another BLAS"),
        ("_has", lambda feature: False, "the processor lacks AVX2 or fused multiplication"),
        ("_uses_svml", lambda: True, "remove the package icc_rt"),
    ],
)
def test_where_it_cannot_be_had_the_line_says_why(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, said: str
) -> None:
    monkeypatch.setattr(module, name, value)
    assert not module.is_portable()
    with pytest.raises(SpecError, match=said) as error:
        require_portable()
    assert "leave --portable out" in str(error.value)


def test_a_program_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_portable", lambda: False)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    with pytest.raises(SpecError, match="OPENBLAS_CORETYPE='Haswell' NPY_DISABLE_CPU_FEATURES="):
        require_portable()
    for variable, value in portable_environment().items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SpecError, match="though OPENBLAS_CORETYPE names Haswell"):
        require_portable()
