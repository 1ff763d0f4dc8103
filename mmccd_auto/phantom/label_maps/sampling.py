"""Separable sampling of volumes: one matrix of weights for each axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import erf


def sampled(volume: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Apply a matrix [new, old] to each axis of a volume in turn; float32 of the new shape."""
    result = volume.astype(np.float32, copy=False)
    for axis, matrix in enumerate(weights):
        result = np.moveaxis(np.tensordot(matrix.astype(np.float32), result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def linear_weights(size: int, step: int, coarse: int) -> np.ndarray:
    """Compute the weights that interpolate linearly between every ``step``-th of ``size`` points; float64 [size, coarse]."""
    places = np.arange(size) / step
    distance = np.abs(places[:, None] - np.arange(coarse)[None])
    return np.clip(1 - distance, 0, None)


def profile_weights(size: int, spacing: float, thickness: float, blur: float, offset: float = 0.0) -> np.ndarray:
    """Compute the weights of points that are measured over a thickness: a box with edges blurred by a normal distribution.

    Parameters
    ----------
    size : old points, one unit apart
    spacing, thickness : of the new points, in units; the difference is the gap between two slices
    blur : standard deviation of the blurring, in units; above 0
    offset : share of a spacing by which the first new point is shifted, within [0, 1)

    Returns
    -------
    float64 [new, size], each row with the sum 1
    """
    count = max(1, int((size - offset * spacing) // spacing))
    centres = (np.arange(count) + 0.5 + offset) * spacing - 0.5
    # The integral of the blurred box over each old point.
    from_centre = np.arange(size)[None] - centres[:, None]
    scale = np.sqrt(2) * blur
    weights = erf((from_centre + thickness / 2) / scale) - erf((from_centre - thickness / 2) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


def weights_between(size: int, coarse: int) -> np.ndarray:
    """Compute the weights that interpolate linearly between ``coarse`` points, the first and last of ``size`` among them."""
    places = np.linspace(0, coarse - 1, size)
    return np.clip(1 - np.abs(places[:, None] - np.arange(coarse)[None]), 0, None)
