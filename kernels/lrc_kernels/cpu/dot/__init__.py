"""Products of coded rows with vectors."""
