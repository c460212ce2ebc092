"""The notebook is valid, has no outputs, and its cells run in their order on a tiny model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import tiny

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "quickstart.ipynb"
FEW = {"MODEL": "model", "WINDOWS": 2, "TOKENS": 32}


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_it_is_a_notebook_of_format_4_5_without_outputs():
    whole = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert set(whole) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (whole["nbformat"], whole["nbformat_minor"]) == (4, 5)
    assert whole["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in cells()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in ids)
    for cell in cells():
        assert all(isinstance(line, str) for line in cell["source"])
        code = {"cell_type", "id", "metadata", "source", "execution_count", "outputs"}
        if cell["cell_type"] == "code":
            assert set(cell) == code
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
        else:
            assert cell["cell_type"] == "markdown"
            assert set(cell) == {"cell_type", "id", "metadata", "source"}


def test_its_cells_run_in_their_order(tmp_path, monkeypatch, capsys):
    tiny.write_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in cells():
        if cell["cell_type"] == "code":
            lines = [line for line in cell["source"] if not line.startswith("%")]
            exec(compile("".join(lines), cell["id"], "exec"), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                assert names["MODEL"].count("/") == 1
                assert set(FEW) <= set(names)
                names |= FEW
    said = capsys.readouterr().out
    assert "times the original's" in said
    assert len(re.findall(r"^ +\d 0\.\d+ #*$", said, re.MULTILINE)) == 2
