"""The slow shading of a scan by its receiving coils, estimated by N4 (Tustison et al., IEEE TMI 29, 2010)."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask

WORKING_MM = 10.0
ITERATIONS = (40, 40, 30)
LEAST_VOXELS = 4
LEAST_FITTED = 6
MOST_NOT_POSITIVE = 0.01
DARK = 0.05
LEAST_USABLE = 0.5


def bias_field(
    array: np.ndarray,
    brain: np.ndarray,
    spacing: tuple[float, float, float],
    working_mm: float = WORKING_MM,
    iterations: tuple[int, ...] = ITERATIONS,
) -> np.ndarray:
    """By what a scan is to be divided so that one tissue has one intensity all over the brain.

    Lesions are small against the field's smoothness and hardly move it. Brains of fewer than four slices, and those that are
    not positive for the greater part, get a field of 1.

    Parameters
    ----------
    array : [z, y, x], no signal is 0 (see :func:`mmccd_auto.imaging.true_zero.without_offset`); turned to LPS: a scan gives
        the same field however it is stored
    brain : bool [z, y, x], not empty
    spacing : mm along x, y, z
    working_mm : the field is fitted to every n-th voxel, at least so far apart; where the brain is too short along an axis
        for six of those, nearer together
    iterations : at most, on each level; the field's knots lie twice as close on every next one

    Returns
    -------
    float32 [z, y, x], above 0, with a geometric mean of 1 inside the brain; 1 outside the brain's box
    """
    usable = _usable(array, brain)
    if np.count_nonzero(usable) < LEAST_USABLE * np.count_nonzero(brain):
        return np.ones(array.shape, dtype=np.float32)
    box = bounding_box_to_slice(get_bbox_from_mask(usable))
    if min(one.stop - one.start for one in box) < LEAST_VOXELS:
        return np.ones(array.shape, dtype=np.float32)
    axes = zip(array.shape, box, reversed(spacing), strict=True)
    taken = [_taken(size, part.stop - part.start, edge, working_mm) for size, part, edge in axes]
    if not usable[tuple(taken)].any():
        return np.ones(array.shape, dtype=np.float32)
    small, small_mask = (_every_nth(one, taken, spacing) for one in (array, usable))
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations(iterations)
    # Sums of several threads depend on who is first.
    correction.SetNumberOfThreads(1)
    correction.Execute(small, small_mask)
    # On the grid that it was fitted on: on another one the filter would stretch it to that one's ends. Its knots are so
    # much further apart than the voxels of that grid that it is as good as linear between them.
    logarithm = _inside_box(correction.GetLogBiasFieldAsImage(small), box, spacing)
    field = np.ones(array.shape, dtype=np.float32)
    field[box] = np.exp(logarithm - logarithm[usable[box]].mean())
    return field


def _usable(array: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Choose the voxels that the field is fitted to: positive ones.

    Where many aren't (fluid that FLAIR shows as 0), nearly dark ones are left out as well: interpolation leaves tiny values
    there, whose logarithms would outweigh all others.
    """
    usable = brain & (array > 0)
    if np.count_nonzero(usable) >= (1 - MOST_NOT_POSITIVE) * np.count_nonzero(brain):
        return usable
    return brain & (array > max(0.0, DARK * float(np.median(array[brain]))))


def _taken(size: int, brain_size: int, edge: float, working_mm: float) -> slice:
    """The voxels along one axis that the field is fitted to, as far from one end as from the other."""
    step = max(1, min(math.ceil(working_mm / edge - 1e-3), brain_size // LEAST_FITTED))
    whole = (size // step - 1) * step
    start = (size - 1 - whole) // 2
    return slice(start, start + whole + 1, step)


def _every_nth(array: np.ndarray, taken: list[slice], spacing: tuple[float, float, float]) -> sitk.Image:
    """The voxels that are taken, where they lie: sitk.Shrink's origin may be half a voxel away from those that it takes."""
    part = array[tuple(taken)]
    image = sitk.GetImageFromArray(part.astype(np.uint8 if part.dtype == bool else np.float32))
    image.SetOrigin([one.start * edge for one, edge in zip(reversed(taken), spacing, strict=True)])
    image.SetSpacing([one.step * edge for one, edge in zip(reversed(taken), spacing, strict=True)])
    return image


def _inside_box(image: sitk.Image, box: tuple[slice, ...], spacing: tuple[float, float, float]) -> np.ndarray:
    """An image [z, y, x] at every voxel of the scan that lies in the box; beyond its own ends it goes on as it ends."""
    size = [one.stop - one.start for one in reversed(box)]
    origin = [one.start * edge for one, edge in zip(reversed(box), spacing, strict=True)]
    rest = (sitk.sitkLinear, origin, spacing, image.GetDirection(), 0.0, sitk.sitkFloat32, True)
    return sitk.GetArrayFromImage(sitk.Resample(image, size, sitk.Transform(), *rest))
