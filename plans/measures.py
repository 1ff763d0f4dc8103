"""What the fingerprint measures in one volume: pure functions of arrays, in mm and intensity units."""

from __future__ import annotations

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask
from scipy import ndimage

from mmccd_auto.core.tuples import pair, triple
from mmccd_auto.plans.plan import SliceAxis

PERCENTILES = (0.5, 2.0, 10.0, 25.0, 50.0, 75.0, 90.0, 98.0, 99.5)
ANISOTROPY = 1.5
SLICE_AXIS_OF_XYZ: tuple[SliceAxis, ...] = ("sagittal", "coronal", "axial")
SMALLEST_BRAIN_SHARE = 0.1
SLICES_BESIDE_ABNORMAL = 2
NORMAL_MAD = 0.6745
LEAST_NOISE_SLICES = 5
SLOW_CHANGE_MM = 30.0
PROFILE_MM = 2.0
DEPTH_SHELLS = 5


def coarsest_axis(spacing: tuple[float, float, float]) -> SliceAxis:
    """Return the slice axis of an acquisition: its coarsest axis where that is > 1.5 x the finest, else axial.

    Parameters
    ----------
    spacing : mm along x, y, z in LPS
    """
    if max(spacing) <= ANISOTROPY * min(spacing):
        return "axial"
    return SLICE_AXIS_OF_XYZ[int(np.argmax(spacing))]


def brain_box(mask: np.ndarray, spacing: tuple[float, float, float]) -> tuple[float, float, float]:
    """Compute the edges (mm, z, y, x) of the smallest box around a mask [z, y, x]; ``spacing`` is x, y, z.

    The mask isn't empty.
    """
    box = get_bbox_from_mask(mask)
    return triple(float((stop - start) * edge) for (start, stop), edge in zip(box, spacing[::-1], strict=True))


def healthy_slices(brain_pixels: np.ndarray, anomaly_pixels: np.ndarray) -> np.ndarray:
    """Decide which slices may be trained on.

    A slice is healthy if its brain area is at least 10 % of the case's largest and no labelled voxel lies in it or in the
    two slices on either side.

    Parameters
    ----------
    brain_pixels, anomaly_pixels : [S], counts per slice

    Returns
    -------
    bool [S]
    """
    abnormal = ndimage.binary_dilation(anomaly_pixels > 0, iterations=SLICES_BESIDE_ABNORMAL)
    large = brain_pixels >= max(1.0, SMALLEST_BRAIN_SHARE * brain_pixels.max(initial=0))
    return large & ~abnormal


def mean_section(mask: np.ndarray, spacing: tuple[float, float]) -> tuple[float, float]:
    """Compute the mean extent (mm; rows, columns) of the brain over the slices of ``mask`` [S, H, W] that have any."""
    occupied = mask[mask.any(axis=(1, 2))]
    return pair(_mean_extent(np.asarray(occupied.any(axis=axis))) * edge for axis, edge in zip((2, 1), spacing, strict=True))


def _mean_extent(lines: np.ndarray) -> float:
    """Compute the mean of last minus first occupied position, plus one, over lines [S, N]."""
    size = lines.shape[1]
    return float(np.mean(size - lines[:, ::-1].argmax(axis=1) - lines.argmax(axis=1)))


def noise_sigma(slices: np.ndarray, mask: np.ndarray, voxels: int = 500_000) -> float:
    """Estimate the noise standard deviation inside the brain, in intensity units.

    The in-plane Laplacian difference of Immerkaer (1996) removes anatomy up to second order; its median absolute
    deviation, unlike its mean, is little moved by the edges that stay.

    Parameters
    ----------
    slices : [S, H, W]
    mask : bool [S, H, W]; pixels whose 3 x 3 neighbourhood leaves the mask don't count (all do where nothing else is left)
    voxels : about as many are looked at (whole slices, evenly spread over those with any, and five of them at least)
    """
    occupied = np.flatnonzero(mask.any(axis=(1, 2)))
    step = max(1, min(int(np.count_nonzero(mask)) // voxels, len(occupied) // LEAST_NOISE_SLICES))
    chosen = occupied[step // 2 :: step]
    slices, mask = slices[chosen], mask[chosen]
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)[None]
    inner = ndimage.binary_erosion(mask, np.ones((1, 3, 3), dtype=bool))
    response = ndimage.convolve(slices.astype(np.float32), kernel, mode="nearest")[inner if inner.any() else mask]
    return float(np.median(np.abs(response)) / NORMAL_MAD / np.linalg.norm(kernel))


def without_slow_changes(volume: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Compute a volume minus its mean in a box of 30 mm around each voxel, inside the mask; float32, 0 outside.

    That takes out the bias field, which is not anatomy. The brightest and darkest 0.5 % are clipped first.

    Parameters
    ----------
    volume, mask : [z, y, x]; the mask isn't empty
    spacing : mm along x, y, z
    """
    low, high = np.percentile(volume[mask], (0.5, 99.5))
    values = np.where(mask, np.clip(volume, low, high) - low, 0).astype(np.float32)
    box = [2 * int(SLOW_CHANGE_MM / 2 / edge) + 1 for edge in spacing[::-1]]
    weight = ndimage.uniform_filter(mask.astype(np.float32), box, mode="constant")
    mean = ndimage.uniform_filter(values, box, mode="constant") / np.maximum(weight, 1e-6)
    return np.where(mask, values - mean, 0).astype(np.float32)


def correlation_length(changes: np.ndarray, mask: np.ndarray, axis: int, spacing: float, voxels: int = 300_000) -> float:
    """Compute the distance (mm) along one axis at which the autocorrelation inside the brain falls to 1/e.

    Where it never falls so far, the largest distance that a tenth of the brain's voxels span is returned.

    Parameters
    ----------
    changes : [z, y, x], see :func:`without_slow_changes`
    mask : bool [z, y, x], not empty
    axis : 0, 1 or 2
    spacing : mm along that axis
    voxels : about as many are looked at (whole lines along the axis, evenly spread)
    """
    step = max(1, int(np.sqrt(np.count_nonzero(mask) / voxels)))
    lines = (slice(None), slice(None, None, step), slice(None, None, step))
    inside, values = (np.ascontiguousarray(np.moveaxis(array, axis, 0)[lines]) for array in (mask, changes))
    values = values.astype(np.float64)
    variance, before = np.sum(values**2) / np.count_nonzero(inside), 1.0
    if variance == 0:
        return float(len(values) * spacing)
    for lag in range(1, len(values)):
        pairs = np.count_nonzero(inside[lag:] & inside[:-lag])
        if pairs < 0.1 * np.count_nonzero(inside):
            return float(lag * spacing)
        correlation = np.sum(values[lag:] * values[:-lag]) / pairs / variance
        if correlation < 1 / np.e:
            return float((lag - 1 + (before - 1 / np.e) / (before - correlation)) * spacing)
        before = correlation
    return float(len(values) * spacing)


def depth_profile(
    volume: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float], counted: np.ndarray | None = None
) -> tuple[float, ...]:
    """Compute the mean intensity in five shells of equal volume, from the brain's rim to its depth.

    P2 of the brain is 0, P90 is 1.

    Fluid and cortex lie at the rim, white matter in the depth, so that the profile distinguishes T1 (rising), T2 (falling)
    and FLAIR whatever the scanner.

    Parameters
    ----------
    volume : [z, y, x]
    mask : bool [z, y, x], not empty
    spacing : mm along x, y, z
    counted : bool [z, y, x], voxels of the mask whose intensities count; None counts all
    """
    box = bounding_box_to_slice(get_bbox_from_mask(mask))
    # Every second voxel of a millimetre gives the shells' means as well, and eight times as fast.
    steps = [max(1, int(PROFILE_MM / edge + 1e-6)) for edge in spacing[::-1]]
    coarse = tuple(slice((size - 1) % step // 2, None, step) for size, step in zip(mask[box].shape, steps, strict=True))
    inside, values = mask[box][coarse], volume[box][coarse]
    taken = inside if counted is None else inside & counted[box][coarse]
    if not taken.any():
        inside, values, steps = mask[box], volume[box], [1, 1, 1]
        taken = inside if counted is None else inside & counted[box]
    sampling = [edge * step for edge, step in zip(spacing[::-1], steps, strict=True)]
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=sampling)[1:-1, 1:-1, 1:-1][taken]
    values = values[taken].astype(np.float64)
    low, high = np.percentile(values, (2, 90))
    order = np.argsort(depth, kind="stable")
    shells = [values[part] if len(part) else values for part in np.array_split(order, DEPTH_SHELLS)]
    return tuple(float((shell.mean() - low) / max(high - low, 1e-12)) for shell in shells)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the overlap of two masks, 0..1."""
    return float(2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second)))
