"""The parts of a compressed matrix, the whole, and directories of them."""
