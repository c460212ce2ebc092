"""The command; the only room that prints."""
