"""Receiving coils: what lies near one of them is brighter."""

from __future__ import annotations

import numpy as np

from mmccd_auto.phantom.label_maps.sampling import sampled, weights_between

ELEMENTS = (4, 20)
RADIUS_MM = (25.0, 80.0)
"""Of an element's loop; the signal of small ones falls steeply, which leaves a bright rim."""
BEYOND_THE_BOX_MM = (0.0, 25.0)
POINT_MM = 6.0
"""Distance of the points at which the coils are computed."""


def coil_gain(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    random: np.random.Generator,
    strength: float,
) -> np.ndarray:
    """Draw an array of coils around a head, and give the gain of each voxel.

    An element's sensitivity at the distance d is that on the axis of a loop, (1 + (d / radius)^2)^-1.5; elements add up as
    the root of the sum of squares.

    Parameters
    ----------
    shape : of the volume, z, y, x; the head fills it
    spacing : mm along z, y, x
    random : everything is drawn from it
    strength : exponent of the gain: 0 for a scanner that makes up for its coils, 1 for one that doesn't

    Returns
    -------
    float32 [z, y, x], above 0, with a mean of 1 within the ellipsoid that fills the volume
    """
    if strength == 0:
        return np.ones(shape, dtype=np.float32)
    half = np.array(shape) * spacing / 2
    counts = tuple(max(2, round(2 * one / POINT_MM) + 1) for one in half)
    points = np.stack(np.meshgrid(*(np.linspace(-1, 1, count) for count in counts), indexing="ij"), axis=-1)
    places = random.standard_normal((int(random.integers(*ELEMENTS)), 3))
    places *= (half + random.uniform(*BEYOND_THE_BOX_MM)) / np.linalg.norm(places, axis=1, keepdims=True)
    radius = random.uniform(*RADIUS_MM)
    squares = ((points[..., None, :] * half - places) ** 2).sum(axis=-1)
    sensitivity = (1 + squares / radius**2) ** -1.5
    gain = np.sqrt((sensitivity**2).sum(axis=-1)) ** strength
    head = (points**2).sum(axis=-1) <= 1
    return sampled(gain / gain[head].mean(), [weights_between(*sizes) for sizes in zip(shape, counts, strict=True)])
