"""Only a family's file, and what converts from other formats, knows what tensors are called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from model_families import CASES

import lrc
from lrc.models import declared

ROOT = Path(lrc.__file__).parent
HOMES = ("models", "convert")
#: Mixes of types are told by the names that GGUF has for matrices; pictures name who made SVG.
ALSO = ("recipes/ggml_types.py", "cli/page/svg.py")
#: Parts of names that are words of the language too.
COMMON = {"model", "decoder", "layers", "blocks", "weight", "bias", "norm", "norms", "mlp", "dense",
          "attention", "embeddings", "backbone", "D", "h", "experts", "gate"}  # fmt: skip


def names() -> set[str]:
    """Parts of the names of all tensors that families declare, and the prefixes in front."""
    found = {"model.layers", "model.norm"}
    for case in CASES.values():
        for tensor in declared(case.config).read:
            found |= {part for part in tensor.split(".") if not part.isdigit()}
    return found - COMMON


def test_the_names_are_those_of_the_checkpoints() -> None:
    assert {"embed_tokens", "lm_head", "self_attn", "down_proj", "input_layernorm"} <= names()


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_tensor_is_named_elsewhere(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    if place.split("/")[0] in HOMES or place in ALSO:
        return
    pattern = re.compile(rf"(?<![A-Za-z])({'|'.join(map(re.escape, sorted(names())))})(?![a-z])")
    text = path.read_text(encoding="utf-8")
    found = sorted({match[0] for match in pattern.finditer(text)})
    assert not found, f"{place} names {', '.join(found)}: ask Model.tensors instead"
