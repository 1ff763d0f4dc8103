"""A scan as it would be without its largest lesion: what a comparison with healthy scans should not be misled by.

Of two halves a lesion leaves one as it was, however large, bright or uneven it is; a part that can be told from the rest is
left out. A scan of another modality is one in both halves, and without any part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask
from scipy import ndimage

from mmccd_auto.core.tuples import triple
from mmccd_auto.plans.measures import PERCENTILES, depth_profile

WORKING_MM = 2.0
BEYOND_QUARTILES = 0.5
CORE_MM, RIM_MM = 6.0, 2.0
LEAST_SHARE, LARGEST_SHARE = 0.01, 0.35


def features_of_halves(
    array: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float]
) -> Iterator[tuple[np.ndarray, tuple[float, ...]]]:
    """Measure the right half of a brain and the left one, which end at the middle of its voxels.

    Parameters
    ----------
    array : [z, y, x] in LPS, intensities
    brain : bool [z, y, x], not empty
    spacing : mm along x, y, z

    Yields
    ------
    the percentiles of plans.measures, and the depth profile; both of the voxels of one half, in the depth of the whole brain
    """
    middle = round(float(np.average(np.arange(brain.shape[2]), weights=brain.sum(axis=(0, 1)))))
    for half in (slice(None, middle), slice(middle, None)):
        counted = np.zeros_like(brain)
        counted[:, :, half] = brain[:, :, half]
        if counted.any():
            yield np.percentile(array[counted], PERCENTILES), depth_profile(array, brain, spacing, counted=counted)


def features_without_lesion(
    array: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float]
) -> Iterator[tuple[np.ndarray, tuple[float, ...]]]:
    """Measure a scan without its largest bright part and without its largest dark part, if they are as large as a tumour.

    A part counts where it is thicker than 12 mm, which the fluid in the furrows of the brain and most ventricles are not,
    and takes 1 to 35 % of the brain.

    Parameters
    ----------
    array : [z, y, x], intensities
    brain : bool [z, y, x], not empty
    spacing : mm along x, y, z

    Yields
    ------
    the percentiles of plans.measures, and the depth profile; both of the brain without that part
    """
    box = bounding_box_to_slice(get_bbox_from_mask(brain))
    steps = [max(1, int(WORKING_MM / edge + 1e-6)) for edge in spacing[::-1]]
    coarse = tuple(slice((size - 1) % step // 2, None, step) for size, step in zip(brain[box].shape, steps, strict=True))
    inside, values = brain[box][coarse], array[box][coarse]
    if not inside.any():
        return
    edges = triple(edge * step for edge, step in zip(spacing, steps[::-1], strict=True))
    low, high = np.percentile(values[inside], (25, 75))
    beyond = BEYOND_QUARTILES * (high - low)
    for marked in (values > high + beyond, values < low - beyond):
        part = _largest_thick_part(inside & marked, edges)
        share = np.count_nonzero(part) / np.count_nonzero(inside)
        if LEAST_SHARE <= share <= LARGEST_SHARE:
            rest = inside & ~part
            yield np.percentile(values[rest], PERCENTILES), depth_profile(values, inside, edges, counted=rest)


def _largest_thick_part(marked: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Compute the largest part of a mask that holds balls of CORE_MM, with what is marked up to RIM_MM around them."""
    sampling = spacing[::-1]
    # Padded, because the border of the box ends the brain as well.
    depth = ndimage.distance_transform_edt(np.pad(marked, 1), sampling=sampling)[1:-1, 1:-1, 1:-1]
    labels, count = ndimage.label(depth > CORE_MM)
    if not count:
        return np.zeros_like(marked)
    core = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return marked & (ndimage.distance_transform_edt(~core, sampling=sampling) <= CORE_MM + RIM_MM)
