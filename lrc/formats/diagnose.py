"""What a directory is that cannot be used as a model, and what to do about it, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrc.base.strict_json import read_object
from lrc.errors import FormatError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_RESAVE = "load the model in transformers and save_pretrained it to a new directory"
_FETCH = f"fetch the {SINGLE} of the model"

#: Patterns of weights that are not read, what they are, and what to do; the first that fits.
_FOREIGN = (
    (("model-*-of-*.safetensors",), "shards of weights without their index", f"fetch {INDEX} too"),
    (
        ("consolidated*.safetensors", "original/*.safetensors"),
        "weights in the format of the model's makers",
        _FETCH,
    ),
    (("*.safetensors",), "no weights of that name", f"expected {SINGLE}: rename the file"),
    (
        (*(f"*{suffix}" for suffix in PICKLES), "original/*.pth"),
        "only pickled weights",
        f"they can run code when read, and {SINGLE} is expected: fetch that, or {_RESAVE}",
    ),
    (("*.gguf",), "only GGUF weights", "use lrc import-gguf on the file first"),
    (("*.onnx", "onnx/*.onnx"), "only an ONNX graph", _FETCH),
    (("*.h5", "*.msgpack", "*.ot", "*.npz"), "only weights for another framework", _FETCH),
)
#: Files of tokenizers that are not read, what they are, and whether transformers can convert them.
_TOKENIZERS = (
    ("tokenizer.model", "a sentencepiece model", True),
    ("*.tiktoken", "a tiktoken vocabulary", True),
    ("tekken.json", "a tekken vocabulary", False),
    ("vocab.json", "a vocabulary and merges", True),
    ("vocab.txt", "a vocabulary", True),
)


def no_directory(path: Path) -> str:
    """Say what a path is that should have been a directory."""
    if not path.exists():
        return (
            f"model {path} does not exist; expected a directory with config.json on this machine, "
            "or the name of a model on the Hugging Face hub, ORG/NAME"
        )
    if path.suffix == ".gguf":
        return f"model {path} is a file; use lrc import-gguf {path} first"
    return f"model {path} is a file; expected a directory with config.json"


def no_config(root: Path) -> str:
    """Say what a directory without config.json is."""
    adapter = _adapter(root)
    if adapter:
        return adapter
    if (root / "params.json").is_file():
        return (
            f"{root} holds a model in the format of its makers (params.json); expected its "
            f"Hugging Face version, with config.json and {SINGLE}: give or fetch that"
        )
    if (root / "model_index.json").is_file():
        return f"{root} is a pipeline of diffusers; expected the directory of a language model"
    gguf = _first(root, ("*.gguf",))
    if gguf:
        return f"{root} has no config.json but {gguf}; use lrc import-gguf {root / gguf} first"
    below = _first(root, ("*/config.json",))
    where = f"; there is one in {root / below}: give its directory" if below else ""
    expected = "" if below else "; expected a Hugging Face model directory"
    return f"{root} has no config.json{where}{expected}"


def no_weights(root: Path) -> str:
    """Say what weights a directory without safetensors weights of the usual name has."""
    adapter = _adapter(root)
    if adapter:
        return adapter
    for patterns, what, remedy in _FOREIGN:
        found = _first(root, patterns)
        if found:
            return f"{root} has {what} ({found}); {remedy}"
    return f"{root} has neither {SINGLE} nor {INDEX}; fetch the weights of the model"


def unread_index(root: Path) -> str | None:
    """Say that the index of a directory with ``model.safetensors`` too is not read.

    None where there is no index, or one that names that file and no other.
    """
    if not (root / INDEX).exists():
        return None
    try:
        weight_map = read_object(root / INDEX).get("weight_map")
    except FormatError:
        weight_map = None
    if isinstance(weight_map, dict) and all(name == SINGLE for name in weight_map.values()):
        return None
    return (
        f"not read: {INDEX} and its shards, as {SINGLE} is there (transformers chooses the same); "
        "remove whichever is stale"
    )


def no_tokenizer(root: Path) -> str:
    """Say how a directory without tokenizer.json gets one."""
    for pattern, what, converts in _TOKENIZERS:
        found = _first(root, (pattern,))
        if found and converts:
            return (
                f"{root} has no tokenizer.json but {what} ({found}); make one with transformers "
                "and sentencepiece: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            )
        if found:
            return f"{root} has no tokenizer.json but {what} ({found}); fetch tokenizer.json"
    return f"{root} has no tokenizer.json; give a whole model directory"


def quantised_by(config: Mapping[str, Any]) -> str | None:
    """Name of the method by which the weights are quantised already; None where they are not.

    Examples
    --------
    >>> quantised_by({"quantization_config": {"quant_method": "gptq", "bits": 4}})
    'gptq'
    >>> quantised_by({"quantization": {"group_size": 64, "bits": 4}})
    'mlx'
    >>> quantised_by({"quantization_config": None}) is None
    True
    """
    given = config.get("quantization_config") or config.get("quantization")
    if not given:
        return None
    method = given.get("quant_method") if isinstance(given, Mapping) else None
    if isinstance(method, str):
        return method
    return "mlx" if config.get("quantization") else "an unnamed method"


def _adapter(root: Path) -> str | None:
    """What to do with an adapter, named with its base model; None where there is none."""
    file = root / "adapter_config.json"
    if not file.is_file():
        return None
    try:
        base = read_object(file, unique=False).get("base_model_name_or_path")
    except FormatError:
        base = None
    of = f" of {base}" if isinstance(base, str) and base else ""
    return (
        f"{root} holds an adapter{of}, not a model; merge it into its base model (peft: "
        "merge_and_unload, then save_pretrained with the tokenizer) and give the merged directory"
    )


def _first(root: Path, patterns: tuple[str, ...]) -> str | None:
    """First visible file below ``root`` that fits one of the patterns, relative to it."""
    for pattern in patterns:
        names = sorted(path.relative_to(root).as_posix() for path in root.glob(pattern))
        visible = [name for name in names if not name.startswith(".")]
        if visible:
            return visible[0]
    return None
