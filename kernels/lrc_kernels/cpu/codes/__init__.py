"""Stored codes to values."""
