"""Models by their names on a hub: fetched, taken from the cache, or refused in one line."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import fake_hub
import pytest
import tiny

import lrc
from lrc.cli.main import main
from lrc.errors import FormatError
from lrc.formats import hub
from lrc.formats.hub_cache import refuse_cached, repository_of
from lrc.parts.packed import open_model_files

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.FakeHub]:
    """A hub with a tiny model and files that nobody needs, and an empty cache."""
    folder = tiny.write_model(tmp_path / "served")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    with fake_hub.fake_hub(folder) as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.chdir(tmp_path)
        hub.fetched.cache_clear()
        yield made
    hub.fetched.cache_clear()


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers any more."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub.fetched.cache_clear()


def test_a_name_is_fetched_and_loads(hub_of: fake_hub.FakeHub) -> None:
    loaded = lrc.load("org/tiny")
    assert loaded.model.config.layers == 2
    assert repository_of(loaded.path) == ("org/tiny", fake_hub.COMMIT)
    names = {path.name for path in loaded.path.rglob("*")}
    assert names == {path.name for path in hub_of.folder.glob("*.*")} - {"pytorch_model.bin"}
    assert hub.model_name("org/tiny") == hub.model_name(loaded.path) == "org/tiny"
    with pytest.raises(FormatError, match="copy it"):
        refuse_cached(loaded.path)


def test_what_was_fetched_serves_offline_and_says_so(
    hub_of: fake_hub.FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = open_model_files("org/tiny").path
    offline(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["inspect", "org/tiny"]) == 0
    assert "note: the hub cannot be reached: org/tiny is taken from the cache" in (
        capsys.readouterr().err
    )
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    hub.fetched.cache_clear()
    assert open_model_files("org/tiny").path == path
    shutil.rmtree(os.environ["HF_HUB_CACHE"])
    hub.fetched.cache_clear()
    with pytest.raises(FormatError, match=r"lrc-llm\[hub\]"):
        open_model_files("org/tiny")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("org/other", "neither a directory here nor a model of the hub"),
        ("org/gated", "has terms to accept"),
        ("org/tiny@none", "has no revision none"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    hub_of: fake_hub.FakeHub, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    assert main(["inspect", name]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_offline_without_a_copy_is_one_line(
    hub_of: fake_hub.FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offline(monkeypatch)
    assert main(["inspect", "org/tiny"]) == 1
    error = capsys.readouterr().err
    assert "not in the cache, and the hub cannot be reached" in error
    assert error.count("\n") == 1


def test_files_of_a_model_are_fetched_with_their_other_parts(hub_of: fake_hub.FakeHub) -> None:
    parts = [f"q2-0000{i}-of-00002.gguf" for i in (1, 2)]
    for name in (*parts, "q4.gguf"):
        (hub_of.folder / name).write_text(name)
    file = hub.local_gguf(f"org/tiny/{parts[1]}")
    assert file.read_text() == parts[1]
    assert sorted(path.name for path in file.parent.iterdir()) == parts
    assert hub.local_gguf("org/tiny@main/q4.gguf").read_text() == "q4.gguf"
    with pytest.raises(FormatError, match=r"org/tiny has no file sub/q3\.gguf"):
        hub.local_gguf("org/tiny/sub/q3.gguf")
    for path in ("q4.gguf", "tiny/q4.gguf", "../org/tiny/q4.gguf", "/org/tiny/q4.gguf"):
        assert hub.local_gguf(path) == Path(path)


def test_paths_are_never_asked_of_a_hub(hub_of: fake_hub.FakeHub, tmp_path: Path) -> None:
    (tmp_path / "org").mkdir()
    for path in ("org/tiny", "tiny", "./org/tiny", "a/b/c", str(tmp_path / "none"), "../org/tiny"):
        with pytest.raises(FormatError, match="does not exist"):
            open_model_files(path)
    assert hub_of.asked == []


@pytest.mark.parametrize(
    "path",
    ["x" * 97 + "/tiny", "org/" + "x" * 300, "org/tiny@" + "x" * 300, "a/b@" + "v/" * 300 + "v"],
)
def test_names_that_are_too_long_for_the_hub_are_paths(path: str) -> None:
    assert hub.hub_name(path) is None
    assert hub.hub_name("x" * 96 + "/" + "y" * 96) is not None
