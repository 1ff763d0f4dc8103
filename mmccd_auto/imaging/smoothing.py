"""Smoothing that knows where the brain ends."""

from __future__ import annotations

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask
from scipy import ndimage


def smooth_inside(
    score: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float], deviation_mm: float
) -> np.ndarray:
    """Compute the mean of the brain voxels around each brain voxel, weighted by a 3D Gaussian of their distance in mm.

    Voxels outside the brain have no weight (a normalised convolution), so that the rim of the brain isn't drawn towards the
    air. The Gaussian ends at four standard deviations along each axis.

    Parameters
    ----------
    score : float [z, y, x]; what lies outside the brain doesn't matter
    brain : bool [z, y, x], not empty
    spacing : mm along x, y, z
    deviation_mm : standard deviation of the Gaussian, mm

    Returns
    -------
    float32 [z, y, x], 0 outside the brain
    """
    box = bounding_box_to_slice(get_bbox_from_mask(brain))
    inside = brain[box]
    deviations = [deviation_mm / edge for edge in reversed(spacing)]
    # In double precision, since rounding would rank voxels of equal surroundings.
    weights, sums = (
        ndimage.gaussian_filter(values, deviations, output=np.float64, mode="constant")
        for values in (inside.astype(np.float64), np.where(inside, score[box], 0).astype(np.float64))
    )
    smoothed = np.zeros(brain.shape, dtype=np.float32)
    smoothed[brain] = sums[inside] / weights[inside]
    return smoothed
