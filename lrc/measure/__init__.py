"""How well a model predicts a text, and what it takes on disk."""
