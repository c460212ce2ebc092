"""Transforms and roundings of activations."""
