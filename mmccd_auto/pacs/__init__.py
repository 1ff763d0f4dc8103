"""A clinic's own systems: studies that arrive there, and objects that are filed with them."""
