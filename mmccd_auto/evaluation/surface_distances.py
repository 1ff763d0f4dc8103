"""Distances in mm between the surfaces of two masks."""

from __future__ import annotations

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask
from scipy import ndimage


def surface_distances(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Measure from each surface voxel of one mask to the nearest surface voxel of the other, between voxel centres.

    A surface voxel is a voxel of the mask with at least one of its six neighbours outside of the mask; what lies beyond the
    volume counts as outside.

    Parameters
    ----------
    first, second : bool [z, y, x], neither empty
    spacing : mm along x, y, z

    Returns
    -------
    distances in mm from the surface of ``first`` (one per surface voxel), and from that of ``second``
    """
    if not first.any() or not second.any():
        raise ValueError("an empty mask has no surface")
    box = bounding_box_to_slice(get_bbox_from_mask(first | second))
    surfaces = [_surface(mask[box]) for mask in (first, second)]
    sampling = tuple(reversed(spacing))
    to_first, to_second = (ndimage.distance_transform_edt(~surface, sampling=sampling) for surface in surfaces)
    return to_second[surfaces[0]], to_first[surfaces[1]]


def distance_figures(
    mask: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
) -> dict[str, float | None]:
    """Return ``assd_mm`` and ``hd95_mm`` of two bool masks [z, y, x]; ``spacing`` in mm along x, y, z.

    ASSD is the mean over the surface voxels of both; HD95 is the larger of the two directed 95th percentiles. Both masks
    empty: 0. One of them empty: None, since there is no surface to measure to.
    """
    if not mask.any() and not reference.any():
        return {"assd_mm": 0.0, "hd95_mm": 0.0}
    if not mask.any() or not reference.any():
        return {"assd_mm": None, "hd95_mm": None}
    forth, back = surface_distances(mask, reference, spacing)
    return {
        "assd_mm": float((forth.sum() + back.sum()) / (forth.size + back.size)),
        "hd95_mm": float(max(np.percentile(forth, 95), np.percentile(back, 95))),
    }


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)
