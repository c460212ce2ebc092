"""Wheels hold the sources without comments, whole docstrings where they are of use, and no less."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
hatch_build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hatch_build)

SOURCE = '''"""What it is.

More of it.
"""

# A reason.
text = """one # not a comment

two"""  # a remark


def public(x):
    """Return x.

    Parameters
    ----------
    x
        Anything.
    """
    return x  # as it is


def _private(x):
    """Return x.

    Longer.
    """
    return public(x)


class _Alone:
    "In other quotes."


def one_liner(): "said and nothing done"
'''


def namespace(source: str) -> dict:
    made: dict = {}
    exec(compile(source, "module", "exec"), made)
    return made


def test_comments_go_and_strings_stay():
    made = hatch_build.slim(SOURCE, whole=True)
    assert "reason" not in made
    assert "remark" not in made
    assert namespace(made)["text"] == "one # not a comment\n\ntwo"
    assert namespace(made)["public"].__doc__ == namespace(SOURCE)["public"].__doc__


def test_summaries_stay_and_private_docstrings_go():
    made = namespace(hatch_build.slim(SOURCE, whole=False))
    assert made["__doc__"].strip() == "What it is."
    assert made["public"].__doc__.strip() == "Return x."
    assert made["_private"].__doc__ is None
    assert made["_Alone"].__doc__ == "In other quotes."
    assert made["_private"](3) == 3


def test_of_what_the_library_alone_calls_modules_say_what_they_are():
    made = namespace(hatch_build.slim(SOURCE, whole=False, inner=True))
    assert made["__doc__"].strip() == "What it is."
    assert made["public"].__doc__ is None
    assert made["one_liner"].__doc__ == namespace(SOURCE)["one_liner"].__doc__
    assert made["public"](3) == 3


def test_lines_are_where_they_were():
    for whole, inner in ((True, False), (False, False), (False, True)):
        made = namespace(hatch_build.slim(SOURCE, whole, inner))
        for name in ("public", "_private", "one_liner"):
            line = namespace(SOURCE)[name].__code__.co_firstlineno
            assert made[name].__code__.co_firstlineno == line


@pytest.mark.parametrize("name", ["lrc/spec/budget.py", "lrc/nn/rope.py", "lrc/formats/pages.py"])
def test_files_of_the_package_are_the_same_programs(name):
    source = (ROOT / name).read_text(encoding="utf-8")
    made = hatch_build.slim(source, whole=False)
    assert len(made.splitlines()) == len(source.splitlines())
    assert len(made) < len(source)
    assert hatch_build._program(ast.parse(made)) == hatch_build._program(ast.parse(source))


def test_what_is_named_is_there():
    sources = [ROOT, ROOT / "kernels"]
    named = (*hatch_build.WHOLE, *hatch_build.INNER)
    gone = [p for p in named if not any((root / p).exists() for root in sources)]
    assert gone == []


def test_a_wheel_is_written_anew_with_a_record_of_it(tmp_path):
    path = tmp_path / "some.whl"
    record = "some.dist-info/RECORD"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("some/text.py", SOURCE)
        wheel.writestr("lrc/errors.py", SOURCE)
        wheel.writestr("some/page.html", "# kept")
        wheel.writestr(record, "")
    hatch_build.slim_wheel(path)
    with zipfile.ZipFile(path) as wheel:
        listed = {row[0]: row[1:] for row in csv.reader(io.StringIO(wheel.read(record).decode()))}
        assert set(listed) == set(wheel.namelist())
        for name in set(listed) - {record}:
            digest = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest())
            assert listed[name] == [f"sha256={digest.decode().rstrip('=')}",
                                    str(len(wheel.read(name)))]  # fmt: skip
        assert b"Parameters" not in wheel.read("some/text.py")
        assert b"Parameters" in wheel.read("lrc/errors.py")
        assert wheel.read("some/page.html") == b"# kept"
    assert list(tmp_path.iterdir()) == [path]
