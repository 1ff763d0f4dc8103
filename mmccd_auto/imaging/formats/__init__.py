"""The formats of volumes: what is read of each, and what makes a file unreadable."""
