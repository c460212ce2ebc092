"""Audio files to the features that speech models read."""
