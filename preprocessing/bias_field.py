"""The slow shading of a scan by its receiving coils, estimated by N4 (Tustison et al., IEEE TMI 29, 2010)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask

from mmccd_auto.core.tuples import triple
from mmccd_auto.preprocessing.registration import one_thread

WORKING_MM = 10.0
ITERATIONS = (40, 40, 30)
LEAST_VOXELS = 4
LEAST_FITTED = 6
MOST_NOT_POSITIVE = 0.01
DARK = 0.05
LEAST_USABLE = 0.5


@dataclass(frozen=True)
class FieldSamples:
    """The voxels of a scan that its bias field is fitted to: all that a second fit needs of the scan itself.

    Attributes
    ----------
    values : float32 [z, y, x], every n-th voxel of the canonical volume
    usable : bool [z, y, x], those that count
    origin, spacing : mm along the volume's own axes x, y, z, from its first voxel
    """

    values: np.ndarray
    usable: np.ndarray
    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.shape != self.usable.shape or not np.isfinite(self.values).all():
            raise ValueError("the samples must be finite and [z, y, x], as what says which of them count")
        if len(self.origin) != 3 or len(self.spacing) != 3 or not all(edge > 0 for edge in self.spacing):
            raise ValueError(f"the samples' origin {self.origin} and spacing {self.spacing} must be three numbers each")


def bias_field(
    array: np.ndarray,
    brain: np.ndarray,
    spacing: tuple[float, float, float],
    working_mm: float = WORKING_MM,
    iterations: tuple[int, ...] = ITERATIONS,
) -> np.ndarray:
    """Estimate the bias field by which a scan is divided so that one tissue has one intensity all over the brain.

    Small lesions hardly move it; a large one looks like shading and is divided away, see :func:`field_change`. Brains of
    fewer than four slices, and those that are not positive for the greater part, get a field of 1.

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
    samples = field_samples(array, brain, spacing, working_mm)
    if samples is None:
        return np.ones(array.shape, dtype=np.float32)
    usable = _usable(array, brain)
    box = bounding_box_to_slice(get_bbox_from_mask(usable))
    # On the grid that it was fitted on: on another one the filter would stretch it to that one's ends. Its knots are so
    # much further apart than the voxels of that grid that it is as good as linear between them.
    logarithm = _inside_box(_fit(samples, samples.usable, iterations), box, spacing)
    field = np.ones(array.shape, dtype=np.float32)
    field[box] = np.exp(logarithm - logarithm[usable[box]].mean())
    return field


def field_samples(
    array: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float], working_mm: float = WORKING_MM
) -> FieldSamples | None:
    """Return the voxels that :func:`bias_field`, with the same parameters, fits the field to.

    None where there is no field.
    """
    usable = _usable(array, brain)
    if np.count_nonzero(usable) < LEAST_USABLE * np.count_nonzero(brain):
        return None
    box = bounding_box_to_slice(get_bbox_from_mask(usable))
    if min(one.stop - one.start for one in box) < LEAST_VOXELS:
        return None
    axes = zip(array.shape, box, reversed(spacing), strict=True)
    taken = tuple(_taken(size, part.stop - part.start, edge, working_mm) for size, part, edge in axes)
    if not usable[taken].any():
        return None
    # Where they lie: sitk.Shrink's origin may be half a voxel away from those that it takes.
    pairs = list(zip(reversed(taken), spacing, strict=True))
    return FieldSamples(
        array[taken].astype(np.float32),
        usable[taken],
        triple(float(one.start * edge) for one, edge in pairs),
        triple(float(one.step * edge) for one, edge in pairs),
    )


def field_change(
    samples: FieldSamples,
    leave_out: np.ndarray,
    origin: tuple[float, float, float],
    spacing: tuple[float, float, float],
) -> np.ndarray | None:
    """Compute the field by which a scan that was divided by its bias field is to be divided as well.

    For a field without some of its voxels.

    Parameters
    ----------
    samples : of the scan
    leave_out : bool [z, y, x] on the grid below, what the field is not fitted to; the spline goes on across it
    origin, spacing : of the grid, mm along x, y, z, as those of the samples

    Returns
    -------
    float32 [z, y, x] on that grid, above 0, up to a factor; None where too few samples are left
    """
    mask = sitk.GetImageFromArray(leave_out.astype(np.uint8))
    mask.SetOrigin(origin)
    mask.SetSpacing(spacing)
    place = (sitk.Transform(), sitk.sitkNearestNeighbor, samples.origin, samples.spacing, mask.GetDirection(), 0.0)
    left_out = sitk.GetArrayFromImage(sitk.Resample(mask, samples.values.shape[::-1], *place)).astype(bool)
    fitted = samples.usable & ~left_out
    if np.count_nonzero(fitted) < LEAST_USABLE * np.count_nonzero(samples.usable):
        return None
    size = leave_out.shape[::-1]
    rest = (sitk.Transform(), sitk.sitkLinear, origin, spacing, mask.GetDirection(), 0.0, sitk.sitkFloat32, True)
    first, second = (
        sitk.GetArrayFromImage(sitk.Resample(_fit(samples, one, ITERATIONS), size, *rest))
        for one in (samples.usable, fitted)
    )
    return np.exp(second - first)


def _fit(samples: FieldSamples, fitted: np.ndarray, iterations: tuple[int, ...]) -> sitk.Image:
    """Fit the logarithm of the field at the samples, fitted to some of them."""
    image, mask = (sitk.GetImageFromArray(one) for one in (samples.values, fitted.astype(np.uint8)))
    for one in (image, mask):
        one.SetOrigin(samples.origin)
        one.SetSpacing(samples.spacing)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations(iterations)
    # Sums of several threads depend on how many there are, in the filters inside of this one, too.
    correction.SetNumberOfThreads(1)
    with one_thread():
        correction.Execute(image, mask)
        return correction.GetLogBiasFieldAsImage(image)


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
    """Return the voxels along one axis that the field is fitted to, as far from one end as from the other."""
    step = max(1, min(math.ceil(working_mm / edge - 1e-3), brain_size // LEAST_FITTED))
    whole = (size // step - 1) * step
    start = (size - 1 - whole) // 2
    return slice(start, start + whole + 1, step)


def _inside_box(image: sitk.Image, box: tuple[slice, ...], spacing: tuple[float, float, float]) -> np.ndarray:
    """Compute an image [z, y, x] at every voxel of the scan that lies in the box.

    Beyond its own ends it goes on as it ends.
    """
    size = [one.stop - one.start for one in reversed(box)]
    origin = [one.start * edge for one, edge in zip(reversed(box), spacing, strict=True)]
    rest = (sitk.sitkLinear, origin, spacing, image.GetDirection(), 0.0, sitk.sitkFloat32, True)
    return sitk.GetArrayFromImage(sitk.Resample(image, size, sitk.Transform(), *rest))
