"""Compiled loops over whole models."""
