"""From slices to errors: the networks' work, strip by strip."""
