"""A token, or a prompt, through every block in one call a thread."""
