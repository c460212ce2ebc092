"""A model's files to a repository of the Hugging Face hub, in one commit."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from lrc.errors import FormatError
from lrc.formats.hub import hub_name


def check_upload(to: str) -> None:
    """Refuse a name that is none of the hub, or a missing library, before any work.

    Raises
    ------
    FormatError
        In one line, what to do.
    """
    name = hub_name(to)
    if name is None or str(name) != to or name.revision != "main":
        raise FormatError(f"--to {to} is no name on the hub; expected ORG/NAME")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise FormatError("uploading needs the extra hub: pip install 'lrc-llm[hub]'")


def upload(to: str, files: Mapping[str, Path | bytes], message: str, *, private: bool) -> str:
    """Make the repository where it is not there, and commit files to it; returns its address.

    Parameters
    ----------
    to : str
        ORG/NAME.
    files : mapping
        Path in the repository to a file or its bytes. Others that are there stay.
    message : str
        Of the commit.
    private : bool
        Of a repository that this makes.

    Raises
    ------
    FormatError
        In one line, what the hub said.
    """
    check_upload(to)
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        made = api.create_repo(to, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, file) for name, file in files.items()]
        api.create_commit(to, operations, commit_message=message)
    except errors.LocalTokenNotFoundError:
        raise FormatError(f"{to}: log in with hf auth login first") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        what = "log in with hf auth login as somebody who may write there" if status in (
            401, 403) else str(error).strip().split("\n")[0]  # fmt: skip
        raise FormatError(f"{to} was not uploaded: {what}") from None
    except Exception as error:  # whatever the library's transport raises
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise FormatError(f"{to} was not uploaded, as the hub cannot be reached ({why})") from None
    return str(made)
