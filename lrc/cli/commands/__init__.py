"""The verbs of the command: each file adds one sub-command and runs it. None prints."""
