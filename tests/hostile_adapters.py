"""Adapters of both kinds over a small model, as `hostile.Format`."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import numpy as np
import tiny
from hostile import LONGS, WORDS, Format, Tree, dumped, json_bytes, raw

from lrc.formats.safetensors.writing import write_safetensors
from lrc.models.opened import open_model
from lrc.models.peft_adapter import PeftAdapter

_RANK = 2


def peft_adapters(folder: Path) -> Format:
    """Directories of PEFT: their configuration, or the header or bytes of their factors."""
    model, _ = open_model(tiny.write_model(folder / "adapted"))
    home = folder / "peft"
    home.mkdir()
    names, tensors = ("adapter_config.json", "adapter_model.safetensors"), {}
    for module in ("self_attn.q_proj", "mlp.down_proj"):
        m, n = model.tensors.shape(f"model.layers.0.{module}.weight")
        place = f"base_model.model.model.layers.0.{module}"
        tensors[f"{place}.lora_A.weight"] = np.ones((_RANK, n), np.float16)
        tensors[f"{place}.lora_B.weight"] = np.ones((m, _RANK), np.float16)
    write_safetensors(home / names[1], tensors, {"format": "pt"})
    whole = (home / names[1]).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, data = Tree(json.loads(whole[8 : 8 + length])), whole[8 + length :]
    config = Tree({
        "peft_type": "LORA", "r": _RANK, "lora_alpha": 4, "use_rslora": True, "bias": "none",
        "rank_pattern": {"down_proj": _RANK},
        "alpha_pattern": {"q_proj": 3.5, "^model.layers.0.mlp.down_proj": 5},
        "use_dora": False, "modules_to_save": None, "layer_replication": None,
        "target_modules": ["q_proj", "down_proj"], "base_model_name_or_path": "x",
    })  # fmt: skip
    in_order = (dumped(config.value), whole)

    def make(rng: random.Random) -> bytes:
        if rng.randrange(2):
            return b"\0" + json_bytes(config, rng)
        if rng.randrange(3) == 0:
            return b"\1" + raw(whole, rng)
        text = json_bytes(header, rng)
        return b"\1" + struct.pack("<Q", len(text)) + text + data

    def read(content: bytes) -> None:
        which = content[0]
        (home / names[which]).write_bytes(content[1:])
        (home / names[1 - which]).write_bytes(in_order[1 - which])
        for delta in PeftAdapter(home).deltas(model).values():
            assert np.isfinite(delta.up).all()

    return Format("peft adapters", make, read, b"\0" + in_order[0])


def gguf_adapters(folder: Path) -> Format:
    """Files of llama.cpp's: any field, count or length of the header may be another."""
    from lrc.convert.gguf.adapter import Factors, write_adapter
    from lrc.convert.gguf.file import gguf_package
    from lrc.convert.gguf.lora import GgufAdapter
    from lrc.convert.gguf.written import GgufModel

    model, _ = open_model(tiny.write_model(folder / "adapted-gguf"))
    rules = GgufModel.of(model, gguf_package())
    factors = []
    for module in ("self_attn.q_proj", "mlp.down_proj"):
        name = f"model.layers.0.{module}.weight"
        m, n = model.tensors.shape(name)
        pair = np.ones((m, _RANK), np.float32), np.ones((_RANK, n), np.float16)
        factors.append(Factors(rules.names[name], *pair))
    path = folder / "adapter.gguf"
    whole = write_adapter(path, rules.written.architecture, factors).read_bytes()
    end = len(whole) - sum(f.left.nbytes + f.right.nbytes for f in factors)

    def make(rng: random.Random) -> bytes:
        if rng.randrange(4) == 0:
            return raw(whole, rng)
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 4))):
            pack, choices = rng.choice((("<I", WORDS), ("<Q", LONGS), ("<B", (0, 1, 9, 255))))
            at = rng.choice((8, 16, rng.randrange(4, end)))
            content[at : at + struct.calcsize(pack)] = struct.pack(pack, rng.choice(choices))
        return bytes(content)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        for delta in GgufAdapter(path).deltas(model).values():
            assert np.isfinite(delta.up).all()

    return Format("gguf adapters", make, read, whole)
