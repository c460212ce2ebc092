"""The model card, and what is uploaded where that is asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fake_hub
import pytest

from lrc.cli.main import main
from lrc.cli.page.card import front_matter
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.measure.quality import kept_quality, model_digest
from lrc.parts.fields import QUALITY
from lrc.parts.integrity import differing_files
from lrc.parts.manifest import CHECKSUMS, read_manifest, write_manifest
from lrc.parts.packed import PackedCheckpoint

pytest.importorskip("huggingface_hub")
GOLDEN = Path(__file__).parent.parent / "data" / "golden"
SOURCE_CARD = '---\nlicense: other\nlicense_name: "tiny-1"\nbase_model: org/grandparent\n---\n'


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A compressed model as it is made today: with checksums, and the card of its original."""
    folder = shutil.copytree(GOLDEN / "v2" / "model", tmp_path / "out")
    (folder / "README.md").write_text(SOURCE_CARD)
    (folder / "LICENSE").write_text("terms")
    manifest = read_manifest(folder)
    manifest["calibration"] = {
        "tokens": 8, "source": "files", "windows": 1, "window_tokens": 8,
        "files": [{"file": "/home/me/secret/a.txt", "tokens": 8}],
    }  # fmt: skip
    checksums = {p.name: file_digest(p).hex() for p in folder.iterdir() if p.name != "lrc.json"}
    write_manifest(folder, manifest | {CHECKSUMS: checksums})
    digest = model_digest(PackedCheckpoint.open(folder))
    text = (GOLDEN / "quality" / QUALITY).read_text().replace("MODEL", digest)
    (folder / QUALITY).write_text(text)
    return folder


def test_a_card_says_what_it_is(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", str(out), "--base", "org/tiny"]) == 0
    text = (out / "README.md").read_text()
    assert front_matter(text) == {
        "license": "other", "license_name": "tiny-1", "library_name": "lrc",
        "pipeline_tag": "text-generation", "base_model": "org/tiny",
        "base_model_relation": "quantized",
    }  # fmt: skip
    for shown in ("# out", "1.531 (1.44 to 1.62)", "0.4625 (0.438 to 0.487)", "66.0 %",
                  "tokens of a.txt", "lrc compress MODEL -o OUT --config spec.json",
                  "## Warnings",
                  "That of the original: tiny-1. Its text is in `LICENSE`."):  # fmt: skip
        assert shown in text
    assert "/home/me" not in text
    assert "grandparent" not in text
    assert list(differing_files(out)) == []
    assert kept_quality(PackedCheckpoint.open(out)).outdated == 0
    before = text
    assert main(["publish", str(out)]) == 0  # what it has said it still knows
    assert (out / "README.md").read_text() == before
    assert "error" not in capsys.readouterr().err


def test_the_original_is_not_what_it_was_made_from(out: Path) -> None:
    assert main(["publish", str(out)]) == 0
    assert "base_model" not in front_matter((out / "README.md").read_text())


def test_a_card_changed_by_hand_stays(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "README.md").write_text("mine")
    assert main(["publish", str(out)]) == 0
    assert (out / "README.md").read_text() == "mine"
    error = capsys.readouterr().err
    assert "was changed by hand" in error
    assert "licence of the original is not known" in error
    assert main(["publish", str(out), "--overwrite", "--license", "mit"]) == 0
    assert front_matter((out / "README.md").read_text())["license"] == "mit"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "none").mkdir()
    with fake_hub.fake_hub(tmp_path / "none") as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        monkeypatch.chdir(tmp_path)
        yield made


def test_only_the_model_is_uploaded_and_only_where_asked(
    hub: fake_hub.FakeHub, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / ".secret").write_text("x")
    (out / "other.bin").write_text("x")
    assert main(["publish", str(out)]) == 0
    assert hub.asked == []
    assert main(["publish", str(out), "--to", "org/tiny"]) == 0
    assert "uploaded to" in capsys.readouterr().out
    sent = hub.committed
    expected = {path.name for path in out.iterdir()} - {".secret", "other.bin"}
    assert set(sent) == expected
    assert b"/home/me" not in b"".join(sent.values())
    assert b"lrc chat org/tiny" in sent["README.md"]
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in sent.items():
        (copy / name).write_bytes(content)
    assert list(differing_files(copy)) == []
    quality = kept_quality(PackedCheckpoint.open(copy))
    assert (len(quality.evaluations), quality.outdated) == (1, 0)
    assert "/home/me" in json.dumps(read_manifest(out))  # what is here stays what it is


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("tiny", "no name on the hub"),
        ("org/tiny@v1", "no name on the hub"),
        ("org/denied", "log in with hf auth login"),
    ],
)
def test_what_cannot_be_uploaded_is_one_line(
    hub: fake_hub.FakeHub, out: Path, capsys: pytest.CaptureFixture[str], to: str, says: str
) -> None:
    hub.denies = True
    assert main(["publish", str(out), "--to", to]) == 1
    error = capsys.readouterr().err.splitlines()
    assert says in error[-1]
    assert error[-1].startswith("lrc: error:")


def test_nobody_answers(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    monkeypatch.chdir(tmp_path)
    assert main(["publish", str(out), "--to", "org/tiny"]) == 1
    assert "the hub cannot be reached" in capsys.readouterr().err.splitlines()[-1]
