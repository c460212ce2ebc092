"""The demonstration: a small model, compressed and compared."""
