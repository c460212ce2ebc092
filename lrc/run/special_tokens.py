"""Special and added tokens, wherever the files of a model directory name them.

`tokenizer.json` holds most of them. Others stand only beside it: by role or with their ids in
`tokenizer_config.json`, and in the older `special_tokens_map.json` and `added_tokens.json`,
which count only where the first gives no ids. A token that is missed is cut into pieces, and a
token with another id is another word, both in silence: so all are added, and ids that do not
come out as the files say are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrc.base.strict_json import read_object
from lrc.errors import FormatError

if TYPE_CHECKING:
    import tokenizers

SETTINGS = "tokenizer_config.json"
_DECODER = "added_tokens_decoder"
#: Roles in the order in which new tokens get their ids; a model's own roles follow.
_ROLES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_optional(path: Path) -> dict[str, Any]:
    """Contents of a JSON object file; empty where there is none."""
    return read_object(path, unique=False) if path.is_file() else {}


def add_named_tokens(backend: tokenizers.Tokenizer, folder: Path) -> dict[str, str]:
    """Add to ``backend`` every token that the files of ``folder`` name and it lacks.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
        Read from the folder's ``tokenizer.json``; changed in place.
    folder : Path

    Returns
    -------
    dict of str to str
        Text of each role such as ``bos_token``; chat templates see these names.

    Raises
    ------
    FormatError
        A file is malformed, or a token does not get the id that a file gives it.
    """
    stored, padding = _stored(folder)
    settings = padding | read_optional(folder / SETTINGS)
    if settings.get(_DECODER) is not None:
        declared = _declared(settings[_DECODER])
    else:
        settings |= read_optional(folder / "special_tokens_map.json")
        declared = _listed(read_optional(folder / "added_tokens.json"), settings) | stored
    roles, extra = _named(settings)
    _add(backend, declared, roles.values(), extra)
    for source in (stored, declared):
        _check_ids(backend, source, folder)
    return {role: token.content for role, token in roles.items()}


def _stored(folder: Path) -> tuple[dict[int, tokenizers.AddedToken], dict[str, Any]]:
    """Tokens that ``tokenizer.json`` adds, by the ids it states, and the role that it names."""
    whole = read_object(folder / "tokenizer.json", unique=False)
    added = {token["id"]: _added(token) for token in whole.get("added_tokens") or []}
    padding = whole.get("padding") or {}
    return added, {role: text for role, text in padding.items() if role == "pad_token"}


def _declared(listed: object) -> dict[int, tokenizers.AddedToken]:
    """``added_tokens_decoder``: ids as text, tokens as objects."""
    if not isinstance(listed, dict) or not all(str(key).isdecimal() for key in listed):
        raise FormatError(f"{SETTINGS}: {_DECODER} must give an object for each token id")
    return {int(key): _added(token) for key, token in listed.items()}


def _listed(
    listed: Mapping[str, object], settings: Mapping[str, Any]
) -> dict[int, tokenizers.AddedToken]:
    """``added_tokens.json``: ids by text, without any flag; special is what is so elsewhere."""
    roles, extra = _named(settings)
    special = {token.content for token in (*roles.values(), *extra)}
    found = {}
    for text, index in listed.items():
        if not isinstance(index, int) or isinstance(index, bool):
            raise FormatError(f"added_tokens.json gives {text!r} the id {index!r}, no integer")
        found[index] = _added(text, special=text in special)
    return found


def _named(
    settings: Mapping[str, Any],
) -> tuple[dict[str, tokenizers.AddedToken], list[tokenizers.AddedToken]]:
    """Tokens by role, standard roles first, and the special tokens without one."""
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    if not isinstance(extra, list | dict):
        raise FormatError(f"extra special tokens are {extra!r}; expected a list or an object")
    own = {k: v for k, v in settings.items() if k.endswith("_token") and isinstance(v, str | dict)}
    if isinstance(extra, dict):
        own, extra = own | extra, []
    order = [role for role in _ROLES if role in own] + [role for role in own if role not in _ROLES]
    roles = {role: _added(own[role], special=True) for role in order}
    return roles, [_added(value, special=True) for value in extra]


def _added(value: Any, *, special: bool = False) -> tokenizers.AddedToken:
    """A token from its text, or from an object with flags; ``special`` where it has none."""
    import tokenizers

    flags = value if isinstance(value, dict) else {"content": value}
    given = {"special": special} | {k: flags[k] for k in _FLAGS if flags.get(k) is not None}
    try:
        return tokenizers.AddedToken(flags["content"], **given)
    except (KeyError, TypeError, UnicodeError) as error:
        raise FormatError(f"{value!r} is not a token; expected text or its object") from error


def _add(
    backend: tokenizers.Tokenizer,
    declared: Mapping[int, tokenizers.AddedToken],
    roles: Collection[tokenizers.AddedToken],
    extra: Collection[tokenizers.AddedToken],
) -> None:
    """Add what ``backend`` lacks or has with other flags: by id, then by role, then the rest."""
    present = backend.get_added_tokens_decoder().values()
    same = {repr(token) for token in present}
    missing = [token for _, token in sorted(declared.items()) if repr(token) not in same]
    known = {token.content for token in (*present, *missing)}
    for token in (*roles, *extra):
        if token.content not in known:
            missing.append(token)
            known.add(token.content)
    in_a_role = {token.content for token in roles}
    for token in missing:
        token.special = token.special or token.content in in_a_role
    backend.add_tokens(missing)


def _check_ids(
    backend: tokenizers.Tokenizer, tokens: Mapping[int, tokenizers.AddedToken], folder: Path
) -> None:
    for index, token in tokens.items():
        got = backend.token_to_id(token.content) if token.content else index
        if got != index:
            raise FormatError(
                f"{folder} gives the token {token.content!r} the id {index}, but its vocabulary "
                f"makes it {got}; take the tokenizer files of one version"
            )
