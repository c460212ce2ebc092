"""A GGUF model as an ordinary Hugging Face directory."""

from lrc.convert.gguf.importer import import_gguf

__all__ = ["import_gguf"]
