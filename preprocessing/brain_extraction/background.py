"""Backgrounds of noise at full strength, as MP2RAGE scans have them, distinguished from dark ones, and darkened."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

from mmccd_auto.imaging.volume import Volume

CORNER_SHARE = 0.08
NOISY_CORNERS = 5
BRIGHT, ROUGH = 0.1, 0.4
"""A neighbourhood is noise at full strength where its mean exceeds this share of the 99th percentile of the scan, and voxels
side by side differ by more than this share of its mean along each axis: by 0.67 in equally distributed noise, by less in
tissue, however bright, and at edges, which are smooth along themselves."""

NEIGHBOURHOOD = 5
"""Voxels."""


def with_dark_background(volume: Volume) -> Volume:
    """Give a scan whose background is dark.

    The scan itself, or, where noise as bright as tissue surrounds the head, the scan with its lowest value there.

    Parameters
    ----------
    volume : scan of a head, any orientation, finite
    """
    array = np.asarray(volume.array, dtype=np.float32)
    lowest, bright = np.percentile(array[::2, ::2, ::2], (0.5, 99))
    array = array - lowest
    if _noisy_corners(array, float(bright - lowest)) < NOISY_CORNERS:
        return volume
    mean = ndimage.uniform_filter(array, NEIGHBOURHOOD, mode="nearest")
    noise = (mean > BRIGHT * (bright - lowest)) & (_local_roughness(array) > ROUGH * mean)
    even = ndimage.binary_opening(~noise, iterations=2)
    labels, count = ndimage.label(even)
    if not count:
        return volume
    head = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    # A neighbourhood that reaches over the head's edge is rough, too.
    head = ndimage.binary_dilation(_filled(head), iterations=NEIGHBOURHOOD // 2)
    return Volume(np.where(head, volume.array, np.asarray(lowest, dtype=volume.array.dtype)), volume.geometry)


def _noisy_corners(array: np.ndarray, bright: float) -> int:
    """Count how many of the eight corners of the volume hold noise as bright as tissue."""
    edges = [max(3, round(CORNER_SHARE * size)) for size in array.shape]
    corners = [
        array[tuple(slice(None, edge) if low else slice(-edge, None) for edge, low in zip(edges, ends, strict=True))]
        for ends in itertools.product((True, False), repeat=3)
    ]
    return sum(bool(one.mean() > BRIGHT * bright and _roughness(one) > ROUGH * one.mean()) for one in corners)


def _roughness(part: np.ndarray) -> float:
    """Compute the mean difference between neighbours, along the axis along which it is least."""
    return min(float(np.abs(np.diff(part, axis=axis)).mean()) for axis in range(3))


def _local_roughness(array: np.ndarray) -> np.ndarray:
    """Compute the mean difference between neighbours in each voxel's neighbourhood.

    Along the axis along which it is least.
    """
    least = np.full(array.shape, np.inf, dtype=np.float32)
    for axis in range(3):
        steps = np.abs(np.diff(array, axis=axis, append=np.take(array, [-1], axis=axis)))
        np.minimum(least, ndimage.uniform_filter(steps, NEIGHBOURHOOD, mode="nearest"), out=least)
    return least


def _filled(mask: np.ndarray) -> np.ndarray:
    """Return the mask without the holes of any plane, such as the eyes and the air inside the head."""
    filled = ndimage.binary_closing(np.pad(mask, 4, mode="edge"), iterations=3)[4:-4, 4:-4, 4:-4]
    for axis in range(3):
        planes = np.moveaxis(filled, axis, 0)
        for plane in planes:
            plane[...] = ndimage.binary_fill_holes(plane)
    return filled
