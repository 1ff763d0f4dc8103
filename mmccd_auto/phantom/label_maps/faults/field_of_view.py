"""Fields of view that end inside the brain."""

from __future__ import annotations

import numpy as np

SHARE_OF_ENDS = (0.55, 0.35, 0.1)
"""Of cuts at the brain's lower end, its upper end, and a side."""
LARGEST_TILT = 0.25
"""Radians, of the cut against the axis."""


def draw_field_of_view(
    brain: np.ndarray, spacing: tuple[float, float, float], random: np.random.Generator, strength: float
) -> np.ndarray:
    """Draw a plane that cuts off an end of the brain; what lies beyond it wasn't scanned.

    Parameters
    ----------
    brain : bool [z, y, x]; z leads to the head's top
    spacing : mm along z, y, x
    random : everything is drawn from it
    strength : mm that are lost at most, along the axis of the cut, in the middle of the plane

    Returns
    -------
    bool [z, y, x], what was scanned; all of it where the strength is 0 or there is no brain
    """
    if strength == 0 or not brain.any():
        return np.ones(brain.shape, dtype=bool)
    end = random.choice(len(SHARE_OF_ENDS), p=SHARE_OF_ENDS)
    axis, lower = (0, True) if end == 0 else (0, False) if end == 1 else (2, bool(random.random() < 0.5))
    extent = np.flatnonzero(brain.any(axis=tuple(other for other in range(3) if other != axis)))
    lost = random.uniform(0, strength) / spacing[axis]
    place = extent[0] + lost if lower else extent[-1] - lost
    tilts = random.uniform(-LARGEST_TILT, LARGEST_TILT, size=2)
    return beside_plane(brain.shape, spacing, axis, place, tuple(tilts), lower)


def beside_plane(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    axis: int,
    place: float,
    tilts: tuple[float, float],
    above: bool,
) -> np.ndarray:
    """Compute the voxels on one side of a plane.

    Parameters
    ----------
    shape : z, y, x
    spacing : mm along z, y, x
    axis : that the plane cuts
    place : voxels along the axis, where the plane cuts the line through the middle of the volume
    tilts : tangents of the plane's slopes along the two other axes, in their order
    above : the side of the larger indices; the plane itself belongs to it

    Returns
    -------
    bool [z, y, x]
    """
    positions = [np.arange(size, dtype=np.float64) * edge for size, edge in zip(shape, spacing, strict=True)]
    grids = list(np.meshgrid(*positions, indexing="ij", sparse=True))
    height = place * spacing[axis]
    others = [other for other in range(3) if other != axis]
    for other, tilt in zip(others, tilts, strict=True):
        height = height + tilt * (grids[other] - positions[other][-1] / 2)
    kept = grids[axis] >= height if above else grids[axis] < height
    return np.broadcast_to(kept, shape)
