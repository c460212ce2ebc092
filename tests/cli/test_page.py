"""The page of a compression: whole, safe, and true to what is stored."""

from __future__ import annotations

import html.parser
import json
import math
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.cli.main import main
from lrc.cli.page import page as pages
from lrc.cli.page import svg
from lrc.cli.page.by_block import series
from lrc.measure.quality import model_digest
from lrc.parts.fields import QUALITY
from lrc.parts.packed import PackedCheckpoint

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
SECTIONS = ["glance", "quality", "size", "blocks", "choices", "warnings", "reproduce"]


class Reader(html.parser.HTMLParser):
    """Checks that tags nest, and collects them and the text."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.ids, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += "" if self.open[-1:] == ["style"] else data


def copy_of(tmp_path: Path, name: str = "model", **changes: object) -> Path:
    """A compressed model with figures, and changes to its manifest."""
    model = shutil.copytree(GOLDEN / "v2" / "model", tmp_path / name)
    manifest = model / "lrc.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    digest = model_digest(PackedCheckpoint.open(model))
    text = (GOLDEN / "quality" / QUALITY).read_text().replace("MODEL", digest)
    (model / QUALITY).write_text(text)
    return model


def page_of(*models: Path) -> Reader:
    first, *others = (pages.Output.open(model) for model in models)
    text = pages.render(first, others)
    for drawn in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawn)
    return Reader(text)


def test_a_page_has_everything_and_loads_nothing(tmp_path: Path) -> None:
    found = page_of(copy_of(tmp_path))
    assert found.ids == SECTIONS
    assert not {tag for tag, _ in found.tags} & {"script", "link", "img", "iframe", "object", "a"}
    assert not [a for _, attributes in found.tags for a in attributes if a in ("src", "href")]
    text = " ".join(found.text.split())
    for shown in ("1.531", "1.44 to 1.62", "0.4625", "0.438 to 0.487", "66 %", "low rank",
                  "lrc compress MODEL -o OUT --config spec.json", "relative error",
                  "lrc eval OUT --against original --text wiki.txt --ctx 512 --windows 40",
                  "given by a program"):  # fmt: skip
        assert shown in text


@pytest.mark.parametrize("name", ["v1", "text"])
def test_old_models_have_a_page_too(name: str) -> None:
    found = page_of(GOLDEN / name / "model")
    assert found.ids == SECTIONS
    assert "Not measured yet" in found.text


def test_all_that_is_on_record_is_told(tmp_path: Path) -> None:
    calibration = {
        "tokens": 7, "dropped_rows": 3, "source": "files", "windows": 1, "window_tokens": 7,
        "files": [{"file": "/home/me/a.txt", "tokens": 7, "skipped_records": 2}],
    }  # fmt: skip
    tested = {"tokens": 128, "loss": 3.125, "original_loss": 2.75, "greedy_agreement": 0.875}
    model = copy_of(
        tmp_path,
        self_test=tested,
        warnings=["/home/me/a.txt: one <script>alert(1)</script>"],
        calibration=calibration,
    )
    (model / QUALITY).write_text((model / QUALITY).read_text().replace('"model": "', '"model": "x'))
    found = page_of(model)
    for shown in ("a.txt: one <script>alert(1)</script>", "3 rows of activations",
                  "2 records skipped", "loss 3.125 nats, of the original 2.75",
                  "before it was changed, 1 of them, are not shown",
                  "needs rows in multiples of 16, not 24: e8p instead"):  # fmt: skip
        assert shown in found.text
    assert "script" not in {tag for tag, _ in found.tags}
    assert "/home/me" not in found.text


def test_outputs_are_drawn_where_they_were_measured_on_the_same(tmp_path: Path) -> None:
    models = [copy_of(tmp_path, name) for name in ("a", "b", "never")]
    (models[2] / QUALITY).unlink()
    found = page_of(*models)
    assert found.ids == [*SECTIONS[:-1], "compared", "reproduce"]
    assert "Not drawn, as they were not measured: never" in found.text
    other = models[1] / QUALITY
    other.write_text(other.read_text().replace('"windows": 40', '"windows": 41'))
    assert "41 windows" in page_of(*models).text
    assert "41 windows" not in found.text


def peer(path: Path, **changes: object) -> Path:
    """What ``lrc eval --json`` writes of a model of others, on the sample of the golden figures."""
    (of,) = json.loads((GOLDEN / "quality" / QUALITY).read_text())["evaluations"]
    sizes = {"name": "q4", "file_bytes": 9000, "bits_per_weight_file": 4.5,
             "bits_per_weight_linear": None, "kl_stderr": 0.1}  # fmt: skip
    path.write_text(json.dumps(of | sizes | {"activations": "f32"} | changes))
    return path


def test_models_of_others_are_drawn_on_the_same_axes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = copy_of(tmp_path), tmp_path / "page.html"
    arguments = ["report", str(out), "-o", str(page), "--compare"]
    assert main([*arguments, str(peer(tmp_path / "a.json"))]) == 0
    text = " ".join(Reader(page.read_text()).text.split())
    assert "q49.0 kB" in text  # two cells of a row
    assert text.count("lower left is better") == 1
    for changes in ({"file_bytes": "x"}, {"text": None}, {"name": 3}, {"file_bytes": 0}):
        assert main([*arguments, str(peer(tmp_path / "b.json", **changes))]) == 1
        assert "evaluate again" in capsys.readouterr().err


def test_experts_of_a_block_are_one_line() -> None:
    of = {
        f"m.layers.{layer}.experts.{e}.up.weight": {"parts": [{"rank": 2 * e}], "x": layer}
        for layer in (0, 1)
        for e in (0, 1)
    }
    assert series(of, "rank") == {"experts.*.up": [(0, 1.0), (1, 1.0)]}
    assert series(of, "x") == {"experts.*.up": [(0, 0.0), (1, 1.0)]}


def test_stacks_are_told_apart() -> None:
    of = {
        f"model.{stack}.layers.0.{key}.weight": {"parts": [], "x": value}
        for stack, value in (("encoder", 1), ("decoder", 2))
        for key in ("fc1", "self_attn.q_proj")
    }
    found = series(of, "x")
    assert list(found) == [
        *("encoder.fc1", "encoder.self_attn.q_proj", "decoder.fc1", "decoder.self_attn.q_proj")
    ]
    assert found["decoder.fc1"] == [(0, 2.0)]


FINITE = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.lists(FINITE, min_size=1, max_size=9), st.booleans())
def test_scales_hold_their_values_and_have_ticks(values: list[float], zero: bool) -> None:
    axis = svg.scale(values, 10.0, 300.0, zero=zero)
    assert all(9.99 <= axis(value) <= 300.01 for value in values)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 6
    assert all(math.isfinite(t) and 9.99 <= axis(t) <= 300.01 for t in ticks)
    assert ticks == sorted(set(ticks))


def test_the_command_writes_it_and_keeps_what_is_not_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copy_of(tmp_path)
    for _ in range(2):  # a page of its own may be replaced
        assert main(["report", str(model)]) == 0
    assert Reader((tmp_path / "model.html").read_text()).ids == SECTIONS
    foreign = tmp_path / "notes.html"
    foreign.write_text("mine")
    for arguments, says in (
        ([str(model), "-o", str(foreign)], "is no page of lrc report"),
        ([], "nothing to report on"),
        ([str(tmp_path)], "config.json"),
    ):
        assert main(["report", *arguments]) == 1
        assert says in capsys.readouterr().err
    assert foreign.read_text() == "mine"


def test_without_jinja2_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages.importlib.util, "find_spec", lambda name: None)
    assert main(["report", str(copy_of(tmp_path))]) == 1
    assert "lrc-llm[report]" in capsys.readouterr().err
