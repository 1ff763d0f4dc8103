"""Predictions as a derivative dataset of BIDS: names, sidecars, the files of the dataset, and its tables."""
