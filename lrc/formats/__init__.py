"""Files in, files out: checkpoints, the packed format, and conversions at the border."""
