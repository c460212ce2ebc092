"""Linear algebra of the one problem: min tr((W - Q - L R) H (W - Q - L R)^T)."""
