"""Numba kernels, one file a subject; assembled by :mod:`lrc_kernels.cpu.kernels`."""
