"""The slow shading of a scan by its receiving coils, estimated by N4 (Tustison et al., IEEE TMI 29, 2010)."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask

WORKING_MM = 10.0
ITERATIONS = (40, 40, 30)
LEAST_VOXELS = 4
MOST_NOT_POSITIVE = 0.01


def bias_field(
    array: np.ndarray,
    brain: np.ndarray,
    spacing: tuple[float, float, float],
    working_mm: float = WORKING_MM,
    iterations: tuple[int, ...] = ITERATIONS,
) -> np.ndarray:
    """By what a scan is to be divided so that one tissue has one intensity all over the brain.

    Lesions are small against the field's smoothness and hardly move it. Scans that have lost their scale (z-scored ones,
    with many values that aren't positive) and those of fewer than four slices get a field of 1.

    Parameters
    ----------
    array : [z, y, x], turned to LPS: a scan gives the same field however it is stored
    brain : bool [z, y, x], not empty
    spacing : mm along x, y, z
    working_mm : the field is fitted to every n-th voxel, so far apart
    iterations : at most, on each level; the field's knots lie twice as close on every next one

    Returns
    -------
    float32 [z, y, x], above 0, with a geometric mean of 1 inside the brain; 1 outside the brain's box
    """
    usable = brain & (array > 0)
    if np.count_nonzero(usable) < (1 - MOST_NOT_POSITIVE) * np.count_nonzero(brain):
        return np.ones(array.shape, dtype=np.float32)
    shrink = [math.ceil(working_mm / edge - 1e-3) for edge in spacing]
    if min(size // factor for size, factor in zip(reversed(array.shape), shrink, strict=True)) < LEAST_VOXELS:
        return np.ones(array.shape, dtype=np.float32)
    image, mask = (_image(one, spacing) for one in (array.astype(np.float32, copy=False), usable.astype(np.uint8)))
    small_mask = sitk.Shrink(mask, shrink)
    if not sitk.GetArrayViewFromImage(small_mask).any():
        return np.ones(array.shape, dtype=np.float32)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations(iterations)
    # Sums of several threads depend on who is first.
    correction.SetNumberOfThreads(1)
    small = sitk.Shrink(image, shrink)
    box = bounding_box_to_slice(get_bbox_from_mask(usable))
    part = image[tuple(slice(one.start, one.stop) for one in reversed(box))]
    del image, mask
    correction.Execute(small, small_mask)
    # On the grid that it was fitted on: on another one the filter would stretch it to that one's ends. Its knots are so
    # much further apart than the voxels of that grid that it is as good as linear between them.
    fitted = correction.GetLogBiasFieldAsImage(small)
    resampled = sitk.Resample(fitted, part, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, True)
    logarithm = sitk.GetArrayViewFromImage(resampled)
    field = np.ones(array.shape, dtype=np.float32)
    field[box] = np.exp(logarithm - logarithm[usable[box]].mean())
    return field


def _image(array: np.ndarray, spacing: tuple[float, float, float]) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    return image
