"""Vector values inside compiled kernels."""
