"""Codebook, bits and rank of every matrix of a model under a budget of bytes.

A survey quantizes each matrix quickly at every width; sensitivities say what its errors do to
the model's output; a knapsack picks; a search end to end improves on the pick.
"""

from lrc.allocation.api import allocate as allocate
