"""From scores to a mask: a threshold, and the least volume of a lesion."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def lesion_mask(score: np.ndarray, brain: np.ndarray, threshold: float, least_mm3: float, voxel_mm3: float) -> np.ndarray:
    """Voxels of the brain above a threshold, without components (26 neighbours) that are too small.

    Parameters
    ----------
    score : float [z, y, x]
    brain : bool [z, y, x]
    threshold : a voxel is marked where its score is above it
    least_mm3 : components below this volume are removed
    voxel_mm3 : volume of a voxel

    Returns
    -------
    bool [z, y, x]
    """
    marked = (score > threshold) & brain
    labels, count = ndimage.label(marked, structure=NEIGHBOURS)
    if not count or least_mm3 <= voxel_mm3:
        return marked
    volumes = np.bincount(labels.ravel()) * voxel_mm3
    keep = volumes >= least_mm3
    keep[0] = False
    return keep[labels]


def component_volumes(mask: np.ndarray, voxel_mm3: float) -> np.ndarray:
    """Volumes in mm3 of the components (26 neighbours) of a mask [z, y, x], the largest first; float64."""
    labels, _ = ndimage.label(mask, structure=NEIGHBOURS)
    return np.sort(np.bincount(labels.ravel())[1:] * float(voxel_mm3))[::-1]
