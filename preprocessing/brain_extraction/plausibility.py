"""Whether a mask can be a brain's."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmccd_auto.imaging.volume import Geometry

SMALLEST_ML, SMALL_ML, LARGE_ML, LARGEST_ML = 600.0, 900.0, 1900.0, 2300.0
USUAL_HEIGHT_MM = 130.0
TOUCHED_FACES = 4
TOUCHED_SHARE = 0.05
LEAST_MAIN_PART = 0.97


def implausible(mask: np.ndarray, geometry: Geometry) -> str:
    """Explain why a mask can't be an adult's brain, as a clause; empty where it can.

    Parameters
    ----------
    mask : bool [z, y, x]
    geometry : of its voxels
    """
    if not mask.any():
        return "it is empty"
    volume = millilitres(mask, geometry)
    smallest = SMALLEST_ML * share_in_view(geometry)
    if not smallest <= volume <= LARGEST_ML:
        return f"{volume:.0f} ml instead of {smallest:.0f} to {LARGEST_ML:.0f} ml"
    touched = sum(np.take(mask, end, axis=axis).mean() > TOUCHED_SHARE for axis in range(3) for end in (0, -1))
    if touched >= TOUCHED_FACES:
        return f"it touches {touched} of the six faces of the volume"
    labels, _ = ndimage.label(mask)
    main = np.bincount(labels.ravel())[1:].max() / np.count_nonzero(mask)
    if main < LEAST_MAIN_PART:
        return f"it falls apart, its largest part holds {100 * main:.0f} % only"
    return ""


def millilitres(mask: np.ndarray, geometry: Geometry) -> float:
    """Give the volume of a mask."""
    return np.count_nonzero(mask) * geometry.voxel_volume / 1000


def share_in_view(geometry: Geometry) -> float:
    """Give the share of a brain that the field of view can hold at least, 0..1: slabs show a part of it."""
    shortest = min(size * spacing for size, spacing in zip(geometry.size, geometry.spacing, strict=True))
    return min(1.0, shortest / USUAL_HEIGHT_MM)
