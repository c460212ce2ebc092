"""Configurations of published models: each is read, and its tensors make up the model's size."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from lrc.models import declared

#: Model to what its ``config.json`` says, and its parameters in billions, without those that see.
PUBLISHED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "published_configs.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_its_size(name: str) -> None:
    tensors = declared(PUBLISHED[name]["config"]).read.values()
    found = sum(math.prod(tensor.shape) for tensor in tensors) / 1e9
    assert found == pytest.approx(PUBLISHED[name]["billions"], abs=0.005)
