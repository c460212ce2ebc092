"""From a model directory to a compressed one: the walk that decomposes and writes."""
