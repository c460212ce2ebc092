"""Write what the package compressed-tensors decodes the golden directory to: digests by layer.

Needs that package and torch, and nothing of this repository::

    python tests/make_compressed_tensors_golden.py
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import torch
from compressed_tensors import __version__
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file

GOLDEN = Path(__file__).parent / "data" / "golden" / "integers"


def decoded(folder: Path) -> dict[str, np.ndarray]:
    """Every layer's weight by its name, as the package makes it of scales in float32."""
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    schemes = QuantizationConfig.model_validate(config).config_groups.values()
    tensors = load_file(folder / "model.safetensors")
    layers = [n.removesuffix(".weight_packed") for n in tensors if n.endswith(".weight_packed")]
    found = {}
    for layer in layers:
        (scheme,) = [s for s in schemes if any(hits(target, layer) for target in s.targets)]
        own = {n.removeprefix(layer + "."): t for n, t in tensors.items() if n.startswith(layer)}
        own["weight_scale"] = own["weight_scale"].to(torch.float32)
        compressor = BaseCompressor.get_value_from_registry("pack-quantized")
        found[layer] = compressor.decompress(own, scheme)["weight"].numpy()
    return found


def hits(target: str, layer: str) -> bool:
    """Whether a target is of this layer."""
    if target.startswith("re:"):
        return re.match(target.removeprefix("re:"), layer) is not None
    return target == layer


def main() -> None:
    """Write the digests."""
    digests = {
        name: hashlib.sha256(np.ascontiguousarray(w, "<f4").tobytes()).hexdigest()
        for name, w in sorted(decoded(GOLDEN / "compressed-tensors").items())
    }
    record = {"by": f"compressed-tensors {__version__}", "sha256": digests}
    (GOLDEN / "decoded.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
