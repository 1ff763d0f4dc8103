"""Scanners of many kinds: slices with gaps, blur, shading, noise and a scale of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.phantom.fields import smooth_field
from mmccd_auto.phantom.label_maps.sampling import profile_weights, sampled

PIXEL_MM, SLICE_MM, GAP = (1.5, 2.5), (2.0, 6.0), (0.0, 0.3)
"""Edge of a pixel, distance of two slices, and the share of that distance which isn't measured."""
SHARE_OF_VOLUMES = 0.3
"""Scanned in three dimensions: no gap, and slices as thin as THIN_MM."""
THIN_MM = (1.5, 2.5)
BLUR = (0.3, 0.6)
SHADING, SHADING_SMOOTHNESS_MM = (0.02, 0.2), (30.0, 70.0)
SIGNAL_TO_NOISE = (18.0, 60.0)
GAIN = (200.0, 4000.0)
LARGEST_VALUE = float(np.iinfo(np.int16).max)


@dataclass(frozen=True)
class Grid:
    """A grid of slices over an anatomy, and what each of its voxels measures.

    Attributes
    ----------
    weights : matrices [new, old] along z, y, x
    pixel, slice_distance, thickness : mm
    geometry : of the new voxels
    """

    weights: tuple[np.ndarray, np.ndarray, np.ndarray]
    pixel: float
    slice_distance: float
    thickness: float
    geometry: Geometry


def draw_grid(
    shape: tuple[int, int, int],
    edge: float,
    corner: tuple[float, float, float],
    around: Geometry,
    random: np.random.Generator,
) -> Grid:
    """Draw axial slices over an anatomy.

    Parameters
    ----------
    shape : of the anatomy, z, y, x
    edge : mm, of its voxels
    corner : mm along x, y, z, from the first voxel of the label map to that of the anatomy
    around : geometry of the label map
    random : everything is drawn from it
    """
    pixel = random.uniform(*PIXEL_MM)
    if random.random() < SHARE_OF_VOLUMES:
        distance, gap = random.uniform(*THIN_MM), 0.0
    else:
        distance, gap = random.uniform(*SLICE_MM), random.uniform(*GAP)
    blur, offset = random.uniform(*BLUR) * pixel / edge, random.random()
    thickness = distance * (1 - gap)
    in_plane = [profile_weights(size, pixel / edge, pixel / edge, blur) for size in shape[1:]]
    through = profile_weights(shape[0], distance / edge, thickness / edge, blur, offset)
    first = np.array(
        [
            corner[0] + pixel / 2 - edge / 2,
            corner[1] + pixel / 2 - edge / 2,
            corner[2] + (0.5 + offset) * distance - edge / 2,
        ]
    )
    origin = np.array(around.origin) + np.reshape(around.direction, (3, 3)) @ first
    geometry = Geometry(
        (len(in_plane[1]), len(in_plane[0]), len(through)),
        (pixel, pixel, distance),
        tuple(float(value) for value in origin),
        around.direction,
    )
    return Grid((through, *in_plane), pixel, distance, thickness, geometry)


def scan(signal: np.ndarray, grid: Grid, random: np.random.Generator) -> np.ndarray:
    """Scan an anatomy: measured over slices, shaded, with Rician noise, at an arbitrary gain.

    Parameters
    ----------
    signal : [z, y, x] of the anatomy, relative to white matter
    grid : of the scan
    random : everything is drawn from it

    Returns
    -------
    float32 [z, y, x] of the grid, at least 0
    """
    measured = sampled(signal, grid.weights)
    smoothness = random.uniform(*SHADING_SMOOTHNESS_MM) / grid.pixel
    # Fields are isotropic in mm: drawn on cubes, of which each slice takes its layer.
    layers = max(1, round(measured.shape[0] * grid.slice_distance / grid.pixel))
    field = smooth_field((layers, *measured.shape[1:]), smoothness, random)
    field = field[np.linspace(0, layers - 1, measured.shape[0]).round().astype(int)]
    measured = measured * np.exp(random.uniform(*SHADING) * field)
    noise = random.standard_normal((2, *measured.shape), dtype=np.float32) / random.uniform(*SIGNAL_TO_NOISE)
    return (np.hypot(measured + noise[0], noise[1]) * random.uniform(*GAIN)).astype(np.float32)


def stored(scanned: np.ndarray) -> np.ndarray:
    """A scan as files hold it, int16; values that would not fit end at the largest."""
    return np.clip(np.rint(scanned), 0, LARGEST_VALUE).astype(np.int16)
