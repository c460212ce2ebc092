"""Layers of a running model, on dense or on packed weights."""
