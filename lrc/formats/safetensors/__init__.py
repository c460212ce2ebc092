"""Safetensors files, directories of them, and models dense in them."""
