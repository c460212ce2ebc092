"""One tiny model, one calibration text and one compressed model for the whole folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny

from lrc.cli.main import main

# Small enough for a second, large enough to exercise every stage.
FAST = (
    *("--nsamples", "6", "--seqlen", "64", "--rank", "4", "--iterations", "2"),
    *("--threads", "1", "--quiet"),
)


@dataclass(frozen=True)
class Outcome:
    """What one run of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def check(self) -> Outcome:
        assert self.code == 0, self.err
        return self


Lrc = Callable[..., Outcome]


@pytest.fixture
def lrc(capsys: pytest.CaptureFixture[str]) -> Lrc:
    """Run the command in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("dense") / "model")


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="session")
def fast() -> tuple[str, ...]:
    return FAST


@pytest.fixture(scope="session")
def packed(model: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "model"
    assert main(["compress", str(model), "-o", str(out), "--calib", str(text), *FAST]) == 0
    return out
