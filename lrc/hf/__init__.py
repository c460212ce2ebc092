"""Compressed models in transformers: ``AutoModelForCausalLM.from_pretrained(OUT)`` on the CPU.

``import lrc.hf`` registers the quantizer ``lrc``. From then on a directory that ``lrc compress``
made opens as any other does, its linear layers on the packed codes::

    import lrc.hf
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained("OUT")

Nothing in the directory says so: ``config.json`` stays the original's, byte for byte, and without
this import transformers finds no weights there and refuses, where an entry in the configuration
would have it go on with random ones. Needs the extra ``hf``; without it there is nothing to
register with, and nothing is.
"""

from __future__ import annotations

import importlib.util

from lrc.hf.quantizer import register as register

if importlib.util.find_spec("transformers") and importlib.util.find_spec("torch"):
    register()
