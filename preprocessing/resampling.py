"""In-plane resampling of canonical volumes onto the plan's grid; the slices themselves stay as they were acquired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask
from scipy import ndimage

from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.imaging.volume import Geometry, Volume

IN_PLANE_AXES = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}
BRAIN_MARGIN = 1.05
FULL_WIDTH_IN_SIGMAS = 2 * math.sqrt(2 * math.log(2))
SMALLEST_WEIGHT = 1e-3


def target_grid(brain: Volume, slice_axis: str, spacing: float, patch_size: tuple[int, int], divisor: int) -> Geometry:
    """Return the grid that the network sees, in the (possibly oblique) axes of the canonical volume.

    Along the slice axis it is the volume's own; in plane it has square pixels, is centred on the brain box and has the
    plan's patch size; where the brain doesn't fit into that, the next multiple of the network's divisor that holds it with a
    margin of 5 %. A brain that only just fits has no margin: tiling it would cost up to four times as much for nothing.

    Parameters
    ----------
    brain : canonical, bool [z, y, x], not empty
    slice_axis : "axial", "coronal" or "sagittal"
    spacing : mm of a pixel
    patch_size : (rows, columns) px
    divisor : the network's
    """
    geometry = brain.geometry
    size, grid_spacing, start = list(geometry.size), list(geometry.spacing), [0.0, 0.0, 0.0]
    box = bounding_box_to_slice(get_bbox_from_mask(brain.array))[::-1]
    for axis, patch in zip(IN_PLANE_AXES[slice_axis], patch_size, strict=True):
        extent = (box[axis].stop - box[axis].start) * geometry.spacing[axis]
        needed = extent / spacing
        size[axis] = patch if needed <= patch else math.ceil(BRAIN_MARGIN * needed / divisor) * divisor
        centre = (box[axis].start + box[axis].stop - 1) / 2 * geometry.spacing[axis]
        start[axis] = centre - (size[axis] - 1) / 2 * spacing
        grid_spacing[axis] = spacing
    return Geometry(triple(size), triple(grid_spacing), _point(geometry, start), geometry.direction)


def resample_mask(mask: Volume, grid: Geometry) -> np.ndarray:
    """Resample a mask (canonical, bool) on ``grid``: linear interpolation above one half; bool [z, y, x]."""
    if not mask.array.any():
        return np.zeros(tuple(reversed(grid.size)), dtype=bool)
    return _linear(_crop(mask, _box(mask.array)), grid) > 0.5


@dataclass(frozen=True)
class BrainOnGrid:
    """What :func:`resample_image` needs to know of a brain; the same for all images that share it.

    Attributes
    ----------
    box : the brain's, with a voxel around it, as slices of [z, y, x]
    weight : float32 in that box, 1 in the brain
    sigmas : voxels along x, y, z, of the smoothing that is due
    inside : bool [z, y, x] on the grid, where the brain is
    divisor : float32 on the grid, the smoothed and interpolated weight
    grid : the target
    """

    box: tuple[slice, slice, slice]
    weight: Volume
    sigmas: tuple[float, float, float]
    inside: np.ndarray
    divisor: np.ndarray
    grid: Geometry


def brain_on_grid(brain: Volume, grid: Geometry) -> BrainOnGrid:
    """Return a brain (canonical, bool [z, y, x], not empty) on ``grid``."""
    box = _box(brain.array)
    weight = _crop(Volume(brain.array.astype(np.float32), brain.geometry), box)
    sigmas = triple(_antialiasing_sigma(*pair) for pair in zip(brain.geometry.spacing, grid.spacing, strict=True))
    inside = _linear(weight, grid) > 0.5
    return BrainOnGrid(box, weight, sigmas, inside, _linear(_smooth(weight, sigmas), grid), grid)


def resample_image(image: Volume, brain: BrainOnGrid) -> np.ndarray:
    """Resample a normalised image on a grid.

    Where the grid is coarser than the image, a Gaussian that turns a voxel's width into a pixel's is applied in plane first
    (Cardoso et al. 2015: full widths at half maximum subtract in quadrature). Smoothing and interpolation use brain voxels
    only (normalised convolution, Knutsson & Westin 1993), so the brain's edge isn't darkened by the background.

    Parameters
    ----------
    image : canonical, [z, y, x]
    brain : of the same image, see :func:`brain_on_grid`

    Returns
    -------
    float32 [z, y, x] on the grid; exactly -3 outside the brain
    """
    values = Volume(_crop(image, brain.box).array.astype(np.float32) * brain.weight.array, brain.weight.geometry)
    resampled = np.full(brain.inside.shape, BACKGROUND, dtype=np.float32)
    sums = _linear(_smooth(values, brain.sigmas), brain.grid)
    resampled[brain.inside] = sums[brain.inside] / brain.divisor[brain.inside]
    return resampled


def resample_label(label: Volume, grid: Geometry, slice_axis: str) -> np.ndarray:
    """Resample a lesion label (canonical, nonzero = lesion) on ``grid``; uint8 [z, y, x] of 0 and 1.

    Linear interpolation above one half, which neither grows nor shrinks lesions on the whole. A lesion section (connected
    within one slice) that would vanish keeps the pixel nearest to its centre, so that no slice with a lesion passes for
    healthy.
    """
    lesion = Volume(label.array != 0, label.geometry)
    resampled = resample_mask(lesion, grid).astype(np.uint8)
    if not lesion.array.any():
        return resampled
    neighbours = np.zeros((3, 3, 3), dtype=int)
    neighbours[tuple(1 if 2 - axis not in IN_PLANE_AXES[slice_axis] else slice(None) for axis in range(3))] = 1
    sections, count = ndimage.label(lesion.array, structure=neighbours)
    voxels = np.argwhere(sections)
    pixels, within = _nearest_pixels(voxels, label.geometry, grid)
    kept = np.zeros(count + 1, dtype=bool)
    marked = resampled[tuple(pixels.T)].astype(bool) & within
    kept[sections[tuple(voxels[marked].T)]] = True
    lost = np.flatnonzero(~kept[1:]) + 1
    if lost.size:
        belongs = sections[tuple(voxels.T)]
        sizes = np.bincount(belongs, minlength=count + 1)[lost]
        sums = [np.bincount(belongs, weights=places, minlength=count + 1)[lost] for places in voxels.T]
        centres = np.stack(sums, axis=1) / sizes[:, None]
        pixels, within = _nearest_pixels(centres, label.geometry, grid)
        resampled[tuple(pixels[within].T)] = 1
    return resampled


def resample_back(values: Volume, weight: np.ndarray, brain: Volume) -> np.ndarray:
    """Resample the values on the target grid back on the canonical grid, linearly interpolated between pixels of the brain.

    Parameters
    ----------
    values : on the target grid, float [z, y, x]
    weight : bool [z, y, x], the brain on the target grid
    brain : canonical, bool [z, y, x]

    Returns
    -------
    float32 [z, y, x] on the canonical grid; exactly 0 outside the brain
    """
    box = _box(brain.array)
    part = _crop(brain, box)
    weights = _linear(Volume(weight.astype(np.float32), values.geometry), part.geometry)
    sums = _linear(Volume(np.where(weight, values.array, 0).astype(np.float32), values.geometry), part.geometry)
    inside = part.array & (weights > SMALLEST_WEIGHT)
    back = np.zeros(brain.array.shape, dtype=np.float32)
    back[box][inside] = sums[inside] / weights[inside]
    return back


def _antialiasing_sigma(fine: float, coarse: float) -> float:
    """Compute the sigma in voxels of the fine spacing that widens a voxel to the coarse spacing.

    0 where nothing is coarsened.
    """
    if coarse <= fine * (1 + 1e-6):
        return 0.0
    return math.sqrt(coarse**2 - fine**2) / FULL_WIDTH_IN_SIGMAS / fine


def _smooth(volume: Volume, sigmas: Sequence[float]) -> Volume:
    array = volume.array
    for axis, sigma in enumerate(reversed(sigmas)):
        if sigma > 0:
            array = ndimage.gaussian_filter1d(array, sigma, axis=axis, mode="constant")
    return Volume(array, volume.geometry)


def _linear(volume: Volume, grid: Geometry) -> np.ndarray:
    """Interpolate linearly onto ``grid``, 0 outside the volume; float32 [z, y, x]."""
    image = Volume(volume.array.astype(np.float32, copy=False), volume.geometry).to_image()
    return sitk.GetArrayFromImage(
        sitk.Resample(
            image,
            grid.size,
            sitk.Transform(),
            sitk.sitkLinear,
            grid.origin,
            grid.spacing,
            grid.direction,
            0.0,
            sitk.sitkFloat32,
        )
    )


def _box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Return the mask's box with one voxel around it, as slices of [z, y, x]."""
    box = bounding_box_to_slice(get_bbox_from_mask(mask))
    return triple(
        slice(max(part.start - 1, 0), min(part.stop + 1, edge)) for part, edge in zip(box, mask.shape, strict=True)
    )


def _crop(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    geometry = volume.geometry
    array = np.ascontiguousarray(volume.array[box])
    start = [part.start * spacing for part, spacing in zip(reversed(box), geometry.spacing, strict=True)]
    return Volume(
        array, Geometry(tuple(reversed(array.shape)), geometry.spacing, _point(geometry, start), geometry.direction)
    )


def _point(geometry: Geometry, offset: list[float]) -> tuple[float, float, float]:
    """Compute the place ``offset`` mm from the first voxel along the volume's own axes x, y, z."""
    direction = np.asarray(geometry.direction).reshape(3, 3)
    return triple(float(value) for value in np.asarray(geometry.origin) + direction @ np.asarray(offset))


def _nearest_pixels(voxels: np.ndarray, geometry: Geometry, grid: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Compute the indices [N, 3] (z, y, x) on ``grid`` nearest to ``voxels``, clipped to it.

    Also which of them lie within it, bool [N].
    """
    direction = np.asarray(geometry.direction).reshape(3, 3)
    shift = direction.T @ (np.asarray(geometry.origin) - np.asarray(grid.origin))
    places = np.asarray(voxels, dtype=float)[:, ::-1] * geometry.spacing + shift
    indices = np.rint(places / grid.spacing).astype(int)
    clipped = np.clip(indices, 0, np.asarray(grid.size) - 1)
    return clipped[:, ::-1], (indices == clipped).all(axis=1)
