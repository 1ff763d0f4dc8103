"""Synthetic lesions for whole batches of healthy slices, quick enough to be drawn again at every iteration of a training."""
