"""What importing costs, and that everything can be imported."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lrc
import lrc_kernels

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("numba", "llvmlite", "scipy", "cupy", "numpy", "tokenizers", "safetensors", "tqdm")


def loaded_after(statement: str) -> set[str]:
    """Names in ``sys.modules`` of a fresh interpreter after a statement."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import lrc", "import lrc.cli.main"])
def test_importing_is_light(statement: str) -> None:
    assert not loaded_after(statement) & set(HEAVY)


def test_importing_kernels_compiles_nothing() -> None:
    assert not loaded_after("import lrc_kernels") & {"numba", "llvmlite", "cupy"}


def test_posix_modules_are_not_needed() -> None:
    """Modules that other platforms lack may be used, but every import of ours does without."""
    absent = "fcntl", "grp", "pwd", "resource", "syslog", "termios"
    statement = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); import importlib\n"
        f"for name in {modules()}: importlib.import_module(name)\n"
        "from lrc.base.resources import peak_rss_bytes; peak_rss_bytes()\n"
        "import tempfile, pathlib; from lrc.base.atomic import atomic_directory\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    with atomic_directory(pathlib.Path(folder) / 'x') as work: (work / 'a').touch()\n"
        "    assert (pathlib.Path(folder) / 'x' / 'a').is_file()\n"
        "pass"
    )
    assert "lrc.base.atomic" in loaded_after(statement)


def modules() -> list[str]:
    # gpu modules need CuPy; __main__ runs the command.
    return [
        info.name
        for package in (lrc, lrc_kernels)
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        if ".gpu" not in info.name and not info.name.endswith("__main__")
    ]


@pytest.mark.parametrize("name", modules())
def test_every_module_is_importable(name: str) -> None:
    importlib.import_module(name)


@pytest.mark.parametrize("name", [name for name in lrc.__all__ if name != "__version__"])
def test_every_public_name_resolves(name: str) -> None:
    assert callable(getattr(lrc, name))


def test_no_module_has_the_name_of_a_verb() -> None:
    # Importing a submodule sets an attribute of the package, and would hide the verb.
    rooms = {info.name for info in pkgutil.iter_modules(lrc.__path__)}
    assert not rooms & set(lrc.__all__)


def test_a_module_is_what_its_import_says() -> None:
    """`import lrc.pipeline` gives the module of that name, for every room."""
    for info in pkgutil.iter_modules(lrc.__path__):
        if not info.name.startswith("__"):
            module = importlib.import_module(f"lrc.{info.name}")
            assert getattr(lrc, info.name) is module


def test_public_names_are_listed_once_and_sorted() -> None:
    assert len(set(lrc.__all__)) == len(lrc.__all__)
    assert set(lrc.__all__) - {"__version__"} == set(lrc._HOME)
    assert set(lrc.__all__) <= set(dir(lrc))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="quantise"):
        lrc.quantise  # noqa: B018


def test_version_is_that_of_the_distribution() -> None:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        assert tomllib.load(stream)["project"]["version"] == lrc.__version__
