"""The decoding half of every codebook."""
