"""Simulated brains: tissue maps of a real anatomy, MR signal equations, lesions with known edges."""
