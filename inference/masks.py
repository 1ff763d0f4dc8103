"""From scores to a mask: a threshold, and the least volume of a lesion."""

from __future__ import annotations

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask
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
    if not marked.any() or least_mm3 <= voxel_mm3:
        return marked
    box = bounding_box_to_slice(get_bbox_from_mask(marked))
    labels, sizes = _components(marked[box])
    keep = sizes * voxel_mm3 >= least_mm3
    keep[0] = False
    marked[box] = keep[labels]
    return marked


def component_volumes(mask: np.ndarray, voxel_mm3: float) -> np.ndarray:
    """Volumes in mm3 of the components (26 neighbours) of a mask [z, y, x], the largest first; float64."""
    marked = np.asarray(mask, dtype=bool)
    if not marked.any():
        return np.zeros(0)
    _, sizes = _components(marked[bounding_box_to_slice(get_bbox_from_mask(marked))])
    return np.sort(sizes[1:] * float(voxel_mm3))[::-1]


def _components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The components' numbers, from 1, and their sizes in voxels; that of 0, the background, isn't counted."""
    labels, count = ndimage.label(mask, structure=NEIGHBOURS)
    # Not of all voxels: bincount makes 64 bits of each.
    return labels, np.bincount(labels[mask], minlength=count + 1)
