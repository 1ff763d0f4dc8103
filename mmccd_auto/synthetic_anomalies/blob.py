"""Where an anomaly lies: a roughened ellipsoid with a soft edge, in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mmccd_auto.core.tuples import triple

AXIS_RATIOS = (0.75, 1.3)
ROUGHNESS = 0.25
EDGE_MM = 2.0
REACH = 2.5
LEAST_PIXELS = 1.5
LARGEST_SHARE_OF_BRAIN = 1 / 3


@dataclass(frozen=True)
class Blob:
    """A place in a block of slices.

    Attributes
    ----------
    weight : float32 [S, H, W], 1 within, 0.5 on the border, 0 at least 4 mm (twice EDGE_MM) outside it
    distance : float32 [S, H, W] from the centre, 1 on the border, infinite where the weight is 0
    centre : voxel (slice, row, column)
    radius : mm, of the ball of the same volume
    """

    weight: np.ndarray
    distance: np.ndarray
    centre: tuple[int, int, int]
    radius: float


def fitting_radius(radius: float, brain: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """Compute the radius (mm) nearest to a wanted one that the brain has room for and the pixels can show.

    At most a third of the shorter side of the brain's box in the slice, at least 1.5 pixels; the pixels win. The extent
    across slices doesn't count, since a block need not hold the whole brain.

    Parameters
    ----------
    radius : mm
    brain : bool [S, H, W], not empty
    spacing : mm between slices, rows and columns
    """
    extents = []
    for axis, edge in ((1, spacing[1]), (2, spacing[2])):
        lines = np.flatnonzero(brain.any(axis=(0, 3 - axis)))
        extents.append((lines[-1] + 1 - lines[0]) * edge)
    return float(max(min(radius, LARGEST_SHARE_OF_BRAIN * min(extents)), LEAST_PIXELS * max(spacing[1:])))


def depth_in_slice(brain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Compute the distance (mm) of each brain voxel to the nearest background of its slice; 0 outside, float [S, H, W]."""
    padded = np.pad(brain, ((0, 0), (1, 1), (1, 1)))
    far = float(max(padded.shape) * max(spacing))
    return ndimage.distance_transform_edt(padded, sampling=(far, *spacing[1:]))[:, 1:-1, 1:-1]


def draw_blob(depth: np.ndarray, spacing: tuple[float, float, float], radius: float, random: np.random.Generator) -> Blob:
    """Draw a place: an ellipsoid with random axes about a brain voxel, its surface moved in and out by smooth noise.

    The centre lies at least half the radius from the brain's edge (half the greatest depth, where no place is so deep), so
    that most of the blob is brain. The blob itself may reach out of the brain and of the grid.

    Parameters
    ----------
    depth : mm [S, H, W], see :func:`depth_in_slice`
    spacing : mm between slices, rows and columns
    radius : mm, of the ball of the same volume
    random : source of the draws
    """
    candidates = np.argwhere(depth >= 0.5 * min(radius, depth.max()))
    centre = candidates[random.integers(len(candidates))]
    reach = np.ceil((REACH * radius + EDGE_MM) / np.array(spacing)).astype(int)
    starts, stops = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, depth.shape)
    box = tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))
    axes = random.uniform(*AXIS_RATIOS, size=3)
    axes *= radius / np.cbrt(axes.prod())
    positions = np.ogrid[box]
    squares = sum(
        ((position - middle) * edge / axis) ** 2
        for position, middle, edge, axis in zip(positions, centre, spacing, axes, strict=True)
    )
    inside = np.sqrt(squares) + ROUGHNESS * smooth_noise(squares.shape, spacing, 0.5 * radius, random)
    # Noise of deviation s moves the border in and out, which adds 3 s^2 to the mean volume: E[(1 - s n)^3] = 1 + 3 s^2.
    inside *= np.cbrt(1 + 3 * ROUGHNESS**2)
    edge = np.clip(0.5 + (1 - inside) * radius / (2 * EDGE_MM), 0, 1)
    # Noise may make islands far outside, and flat slopes that would alter much around what is marked.
    parts, _ = ndimage.label(edge > 0.5, np.ones((3, 3, 3)))
    marked = (parts == parts[tuple(centre - starts)]) & (parts > 0)
    away = ndimage.distance_transform_edt(~marked, sampling=spacing)
    edge = np.where(marked, edge, np.minimum(edge, np.clip(1 - away / (2 * EDGE_MM), 0, 0.5)))
    weight = np.zeros(depth.shape, dtype=np.float32)
    distance = np.full(depth.shape, np.inf, dtype=np.float32)
    weight[box], distance[box] = edge, np.where(edge > 0, np.maximum(inside, 0), np.inf)
    return Blob(weight, distance, triple(int(position) for position in centre), radius)


def smooth_noise(
    shape: tuple[int, ...], spacing: tuple[float, ...], smoothness: float, random: np.random.Generator
) -> np.ndarray:
    """Compute Gaussian noise smoothed by ``smoothness`` mm along every axis, with mean 0 and standard deviation 1.

    Parameters
    ----------
    shape : of the grid
    spacing : mm along its axes
    smoothness : mm, standard deviation of the Gaussian; 0 leaves the noise white
    random : source of the noise

    Returns
    -------
    float32 of ``shape``; all 0 for a single voxel
    """
    noise = random.standard_normal(shape).astype(np.float32)
    if smoothness > 0:
        noise = ndimage.gaussian_filter(noise, [smoothness / edge for edge in spacing], mode="wrap")
    noise -= noise.mean()
    deviation = noise.std()
    return noise / deviation if deviation > 0 else noise
