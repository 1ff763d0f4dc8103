"""Synthetic lesions for whole batches of healthy slices, quick enough to be drawn anew at every iteration of a training."""
