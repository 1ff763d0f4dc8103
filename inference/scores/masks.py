"""From scores to lesions and candidates: a threshold, and the least volume of a lesion."""

from __future__ import annotations

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask
from scipy import ndimage

NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def lesions_and_candidates(
    score: np.ndarray, brain: np.ndarray, threshold: float, least_mm3: float, voxel_mm3: float
) -> tuple[np.ndarray, np.ndarray]:
    """Part the voxels of the brain above a threshold into lesions and candidates, by the volume of their component.

    Parameters
    ----------
    score : float [z, y, x]
    brain : bool [z, y, x]
    threshold : a voxel is marked where its score is above it
    least_mm3 : components (26 neighbours) of at least this volume are lesions, smaller ones are candidates
    voxel_mm3 : volume of a voxel

    Returns
    -------
    bool [z, y, x] each; no voxel is in both
    """
    lesions = (score > threshold) & brain
    candidates = np.zeros_like(lesions)
    if not lesions.any() or least_mm3 <= voxel_mm3:
        return lesions, candidates
    box = bounding_box_to_slice(get_bbox_from_mask(lesions))
    labels, sizes = _components(lesions[box])
    small = sizes * voxel_mm3 < least_mm3
    small[0] = False
    candidates[box] = small[labels]
    lesions &= ~candidates
    return lesions, candidates


def component_volumes(mask: np.ndarray, voxel_mm3: float) -> np.ndarray:
    """Compute the volumes in mm3 of the components (26 neighbours) of a mask [z, y, x], the largest first; float64."""
    marked = np.asarray(mask, dtype=bool)
    if not marked.any():
        return np.zeros(0)
    _, sizes = _components(marked[bounding_box_to_slice(get_bbox_from_mask(marked))])
    return np.sort(sizes[1:] * float(voxel_mm3))[::-1]


def _components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the components' numbers, from 1, and their sizes in voxels; that of 0, the background, isn't counted."""
    labels, count = ndimage.label(mask, structure=NEIGHBOURS)
    # Not of all voxels: bincount makes 64 bits of each.
    return labels, np.bincount(labels[mask], minlength=count + 1)
