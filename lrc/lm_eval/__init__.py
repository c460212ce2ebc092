"""Models of this library in EleutherAI's evaluation harness (the package ``lm_eval``).

``import lrc.lm_eval`` registers them as ``lrc``; ``python -m lrc.lm_eval`` is the harness' own
command with them::

    python -m lrc.lm_eval run --model lrc --model_args pretrained=OUT --tasks hellaswag

Needs the extra ``lm-eval``; without it there is nothing to register with, and nothing is.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from lrc.lm_eval.model import HarnessModel

#: What the harness calls the models.
NAME = "lrc"


def registered() -> Any:
    """The class that the harness knows as ``lrc``, registered now if it was not.

    Raises
    ------
    ImportError
        The package ``lm_eval`` is missing.
    """
    from lm_eval.api.model import LM
    from lm_eval.api.registry import MODEL_REGISTRY, register_model

    if NAME not in MODEL_REGISTRY:
        made: Any = type("LrcLM", (HarnessModel, LM), {"__doc__": HarnessModel.__doc__})
        register_model(NAME)(made)
    return MODEL_REGISTRY[NAME]


if importlib.util.find_spec("lm_eval") is not None:
    registered()
