"""Healthy slices that a fold was not trained on, their maps, and the calibration on them."""
