"""Arrays in, arrays out: the numerical kernels of ``lrc``.

Knows no model, no file and no recipe. Importing the package compiles nothing and loads no
Numba; :func:`lrc_kernels.backend.get_kernels` does so on its first call.
"""
