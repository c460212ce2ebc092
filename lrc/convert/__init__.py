"""A model written for other programs, one file a target."""
