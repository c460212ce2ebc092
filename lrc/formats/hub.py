"""Models by their names on the Hugging Face hub: what a path that is none may stand for.

Nothing is asked of the network unless somebody gives such a name.
"""

from __future__ import annotations

import errno
import functools
import importlib.util
import os
import re
import warnings
from pathlib import Path
from typing import NamedTuple

from lrc.errors import FormatError
from lrc.formats.hub_cache import cache_folder, cached_snapshot, repository_of, snapshot_in

#: What a model's directory may hold that is read here, or kept beside it.
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.md", "LICENSE*", "NOTICE*"]
#: Other formats of the same weights.
_UNWANTED = ["*/*.safetensors", "*/*.json", "*/*.txt", "*/*.model", "*/*.md", "consolidated*"]
#: The hub has no longer names, and no system longer ones of folders than revisions may have.
_PART = r"[A-Za-z0-9][\w.-]{0,95}"
#: A branch, tag or commit; as with git, no part of it begins with a dot.
_REVISION = r"\w[\w.-]{0,127}"
#: Letters of a name in all: of more, no system has a path.
_MOST = 450
_NAME = re.compile(rf"({_PART}/{_PART})(?:@({_REVISION}(?:/{_REVISION})*))?")
_GGUF = re.compile(rf"({_PART}/{_PART})(?:@({_REVISION}))?/((?:{_PART}/)*{_PART}\.gguf)")
#: The number of a part of a model in several files.
_NUMBER = re.compile(r"-\d{5}(?=-of-\d{5}\.gguf$)")


class HubName(NamedTuple):
    """A model on the hub, and a branch, tag or commit of it."""

    name: str
    revision: str

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name}@{self.revision}"


def hub_name(path: str | Path) -> HubName | None:
    """The model on the hub that ``path`` names; None where it is, or looks like, a path.

    A name is ORG/NAME or ORG/NAME@REVISION, where no file or folder ORG lies here.

    Examples
    --------
    >>> hub_name("org/tiny@v1")
    HubName(name='org/tiny', revision='v1')
    >>> hub_name("/org/tiny"), hub_name("tiny"), hub_name("../org/tiny"), hub_name("a/b/c")
    (None, None, None, None)
    """
    text = Path(path).as_posix()
    found = _NAME.fullmatch(text) if len(text) <= _MOST else None
    if found is None or Path(found[1].split("/")[0]).exists():
        return None
    return HubName(found[1], found[2] or "main")


def local_model(path: str | Path) -> Path:
    """The directory that a path or a name on the hub stands for; fetched where it must be.

    Raises
    ------
    FormatError
        The name is none of the hub, or cannot be fetched; or as `snapshot_in`.
    """
    name = hub_name(path)
    return snapshot_in(Path(path)) if name is None else fetched(name)


def local_gguf(path: str | Path) -> Path:
    """The file that a path, or ORG/NAME[@REVISION]/FILE.gguf on the hub, stands for.

    Of a model in parts all are fetched.

    Raises
    ------
    FormatError
        As :func:`local_model`, or there is no such file.
    """
    text = Path(path).as_posix()
    found = _GGUF.fullmatch(text) if len(text) <= _MOST else None
    if found is None or Path(found[1].split("/")[0]).exists():
        return Path(path)
    name = HubName(found[1], found[2] or "main")
    file = fetched(name, (_NUMBER.sub("-*", found[3]),)) / found[3]
    if not file.is_file():
        raise FormatError(f"{name} has no file {found[3]}")
    return file


def model_name(path: str | Path) -> str:
    """What to call the model of a path: as on the hub where it is from there, else its folder."""
    if name := hub_name(path):
        return name.name
    folder = snapshot_in(Path(path)).absolute()
    known = repository_of(folder)
    return folder.resolve().name if known is None else known[0]


@functools.cache
def fetched(name: HubName, wanted: tuple[str, ...] = ()) -> Path:
    """The snapshot of a model of the hub in the cache, brought up to date where there is a network.

    ``wanted`` are patterns of files; all that a model's directory may hold unless given. Once a
    process: what was fetched then stays what it is.

    Raises
    ------
    FormatError
        In one line, what is missing and what to do.
    """
    cached = cached_snapshot(*name)
    if importlib.util.find_spec("huggingface_hub") is None:
        if cached is not None:
            return cached
        raise FormatError(
            f"{name} is neither a directory here nor a model in the cache; to fetch it from the "
            "Hugging Face hub install the extra: pip install 'lrc-llm[hub]'"
        )
    from huggingface_hub import HfApi, errors

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        api.model_info(name.name, revision=name.revision, timeout=10)
        return Path(
            api.snapshot_download(
                name.name, revision=name.revision, cache_dir=cache_folder(),
                allow_patterns=list(wanted) or _WANTED,
                ignore_patterns=None if wanted else _UNWANTED,
            )
        )  # fmt: skip
    except errors.GatedRepoError:
        what = "has terms to accept: do so on its page, then log in with hf auth login"
    except errors.RepositoryNotFoundError:
        what = (
            "is neither a directory here nor a model of the hub that you may see; check the name, "
            "or log in with hf auth login"
        )
    except errors.RevisionNotFoundError:
        what = f"has no revision {name.revision}"
    except Exception as error:  # whatever the library's transport raises
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        if cached is not None:
            note = f"the hub cannot be reached: {name} is taken from the cache"
            warnings.warn(note, stacklevel=2)
            return cached
        why = str(error).strip().split("\n")[0] or type(error).__name__
        if isinstance(error, errors.OfflineModeIsEnabled):
            why = "HF_HUB_OFFLINE is set"
        what = (
            f"is not in the cache, and the hub cannot be reached ({why}); connect, or give a "
            "directory"
        )
    raise FormatError(f"{name} {what}")
