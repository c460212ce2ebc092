"""State-space layers: causal convolutions and scans that carry a state from token to token."""
