"""Makes the wheel small: its sources go without comments and with shorter docstrings.

A wheel compresses each file for itself, so that what repeats between six hundred files counts six
hundred times, and of what is left a third is prose. Wheels keep all that runs, on the lines where
the repository has it (a traceback names the same place), every docstring of what ``WHOLE`` names,
and the summaries of the other ones, without those of functions in ``INNER``; the repository and the
sdist have all of it.
"""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import os
import re
import tokenize
import zipfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # the tests need the functions alone
    BuildHookInterface = object

# What programs call or derive from: whole docstrings. Files, or folders with a slash at the end.
WHOLE = (
    "lrc/__init__.py",
    "lrc/allocation/api.py",
    "lrc/base/progress.py",
    "lrc/codebooks/base.py",
    "lrc/convert/hf.py",
    "lrc/errors.py",
    "lrc/measure/evaluate.py",
    "lrc/models/base.py",
    "lrc/parts/base.py",
    "lrc/pipeline/compress.py",
    "lrc/pipeline/plan.py",
    "lrc/pipeline/report.py",
    "lrc/pipeline/reproduce.py",
    "lrc/pipeline/verify.py",
    "lrc/quant/base.py",
    "lrc/quant/ldlq.py",
    "lrc/refine/options.py",
    "lrc/refine/tune.py",
    "lrc/run/generate.py",
    "lrc/run/load.py",
    "lrc/run/sampler.py",
    "lrc/solvers/api.py",
    "lrc/solvers/base.py",
    "lrc/spec/",
    "lrc/testing/",
    "lrc_kernels/contract.py",
)
# What this library alone calls.
INNER = ("lrc_kernels/cpu/", "lrc_kernels/gpu/", "lrc_kernels/simd/")
OPENING = re.compile(r'[rRuU]?("""|\'\'\')')
WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def slim(source: str, whole: bool, inner: bool = False) -> str:
    """A module without comments; unless it is ``whole``, docstrings without their details.

    A line of the result says what the same line of the source says. Private functions and classes,
    and of an ``inner`` module all, lose their docstrings unless those are all that they have; the
    other docstrings keep their first paragraphs.

    Raises
    ------
    ValueError
        If the result would not be the same program.
    """
    lines = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip() + "\n"
    tree = ast.parse(source)
    if not whole:
        for node in ast.walk(tree):
            if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node) is not None:
                private = inner or getattr(node, "name", "").startswith("_")
                _shorten(lines, node, private and not isinstance(node, ast.Module))
    result = "".join(lines)
    if _program(ast.parse(result)) != _program(tree):
        raise ValueError("a source file is not the same program without its comments")
    return result


def _shorten(lines: list[str], node: Any, private: bool) -> None:
    """Cut the docstring of a node in ``lines``, which are changed."""
    said = node.body[0]
    first, last = said.lineno - 1, said.end_lineno - 1
    opening = OPENING.match(lines[first].encode()[said.col_offset :].decode())
    if opening is None or lines[last].rstrip()[-3:] != opening[1]:
        return  # in other quotes, or with a statement on the same line
    if private and len(node.body) > 1:
        lines[first : last + 1] = ["\n"] * (last + 1 - first)
        return
    end = next((row for row in range(first, last) if not lines[row].strip()), last)
    if end < last:
        lines[end] = " " * said.col_offset + opening[1] + "\n"
        lines[end + 1 : last + 1] = ["\n"] * (last - end)


def _program(tree: ast.Module) -> str:
    """What a module does: its syntax without docstrings, and the lines of its statements."""
    for node in ast.walk(tree):
        if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return ast.dump(tree) + str(lines)


def slim_wheel(path: Path) -> None:
    """Write a wheel anew with slim sources, in place: whole, or as it was."""
    files: dict[zipfile.ZipInfo, bytes] = {}
    with zipfile.ZipFile(path) as wheel:
        for entry in wheel.infolist():
            data = wheel.read(entry)
            if entry.filename.endswith(".py"):
                whole = entry.filename.startswith(WHOLE)
                inner = entry.filename.startswith(INNER)
                data = slim(data.decode("utf-8"), whole, inner).encode("utf-8")
            files[entry] = data
    record = next(entry for entry in files if entry.filename.endswith(".dist-info/RECORD"))
    files[record] = _record(files, record.filename).encode("utf-8")
    partial = path.with_name(path.name + ".partial")
    with zipfile.ZipFile(partial, "w") as wheel:
        for entry, data in files.items():
            wheel.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=9)
    os.replace(partial, path)


def _record(files: dict[zipfile.ZipInfo, bytes], own: str) -> str:
    """The list of a wheel's files with their hashes and sizes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for entry, data in files.items():
        if entry.filename == own:
            writer.writerow([own, "", ""])
            continue
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow([entry.filename, f"sha256={digest}", len(data)])
    return text.getvalue()


class SlimWheel(BuildHookInterface):  # type: ignore[misc, unused-ignore]
    """Runs :func:`slim_wheel` on what hatchling has built; editable installs have no sources."""

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called by hatchling when a wheel lies at ``artifact_path``."""
        if version != "editable":
            slim_wheel(Path(artifact_path))
