"""Volumes: where they lie, how they are read and written, and what their values may be and mean."""
