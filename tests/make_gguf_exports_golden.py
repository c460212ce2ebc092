"""Write what GGUF files of every family that is exported hold: a digest of each tensor, and fields.

Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_gguf_exports_golden.py
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import gguf
import gguf_models
import numpy as np
from gguf_models import CASES

from lrc.convert.gguf import import_gguf
from lrc.convert.gguf.exporter import export_gguf
from lrc.convert.gguf.written import WRITTEN

GOLDEN = gguf_models.GOLDEN / "exports.json"
WRITABLE = [name for name, case in CASES.items() if case.config["model_type"] in WRITTEN]
#: What may be another under another version of the package ``gguf``, or of this one.
_LIBRARY = ("general.quantization_version", "GGUF.")


def contents(path: Path) -> dict[str, Any]:
    """Type, shape and digest of every tensor, and a digest of fields by name."""
    reader = gguf.GGUFReader(path)
    tensors = {
        tensor.name: [
            tensor.tensor_type.name,
            [int(side) for side in tensor.shape],
            hashlib.sha256(np.ascontiguousarray(tensor.data).tobytes()).hexdigest()[:16],
        ]
        for tensor in reader.tensors
    }
    fields = {
        name: field.contents()
        for name, field in sorted(reader.fields.items())
        if not name.startswith(_LIBRARY)
    }
    text = json.dumps(fields, sort_keys=True, default=str)
    return {"fields": hashlib.sha256(text.encode()).hexdigest()[:16], "tensors": tensors}


def exported(name: str, folder: Path) -> Path:
    """The file of a case, by way of the directory that its own import gives."""
    case = CASES[name]
    known = json.loads((gguf_models.GOLDEN / "models.json").read_text(encoding="utf-8"))
    shapes = {key: tuple(shape) for key, shape in known[name]["shapes"].items()}
    weights = gguf_models.draw(shapes, gguf_models.shifted(case), 4711)
    file = gguf_models.write(folder / "m.gguf", case, weights, kind=gguf.GGMLQuantizationType.F32)
    return export_gguf(import_gguf(file, folder / "hf"), folder / "out.gguf")


def main() -> None:
    """Write them all anew."""
    found = {}
    for name in WRITABLE:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = contents(exported(name, Path(folder)))
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
