"""Kernels for CUDA devices, by CuPy: what :mod:`lrc_kernels.cpu` does for the compression of Q."""
