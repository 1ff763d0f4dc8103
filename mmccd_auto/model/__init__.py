"""The method: cycle, networks, noise and masks."""
