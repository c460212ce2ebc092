"""Help for tests of matrix decompositions: strategies, laws and the tolerance policy.

``strategies`` needs Hypothesis; ``laws``, ``models``, ``ops`` and ``tolerance`` need NumPy and
SciPy only.
"""
