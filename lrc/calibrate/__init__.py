"""Text to token windows, and the second moments of every input site of a block."""
