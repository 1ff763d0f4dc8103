"""What a command does, one file a command, as functions that a notebook can call too."""
