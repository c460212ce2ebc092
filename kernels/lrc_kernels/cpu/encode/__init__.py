"""Searches for the best codes."""
