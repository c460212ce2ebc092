"""One HTML page of what a compression did: no script, nothing loaded from elsewhere."""
