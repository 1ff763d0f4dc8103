"""Lesions: irregular blobs of another tissue, somewhere in the white and grey matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.phantom.fields import smooth_field

ROUGHNESS = 0.35
EDGE_MM = 1.5


@dataclass(frozen=True)
class Lesion:
    """A lesion that is to be simulated.

    Attributes
    ----------
    kind : a key of mmccd_auto.phantom.signal.LESIONS
    radius : mm, of the ellipsoid that noise roughens
    """

    kind: str
    radius: float


def place_lesion(
    lesion: Lesion, shares: np.ndarray, occupied: np.ndarray, spacing: float, random: np.random.Generator
) -> np.ndarray:
    """Share of the lesion in the white and grey matter of every voxel.

    The centre is drawn from voxels of mostly white matter whose surroundings are mostly tissue, away from other lesions.
    The surface is an ellipsoid with random axes, moved in and out by smooth noise, one mm soft; fluid is not replaced.

    Parameters
    ----------
    lesion : kind and size
    shares : [T, z, y, x], white matter first, fluid last
    occupied : share of earlier lesions [z, y, x]
    spacing : mm, isotropic
    random : source of the draws

    Returns
    -------
    float32 [z, y, x] within [0, 1]
    """
    size = max(1.0, lesion.radius / spacing)
    tissue = ndimage.gaussian_filter(shares[:-1].sum(axis=0), 0.5 * size)
    free = ndimage.gaussian_filter(occupied, 2 * size) < 1e-3
    suitable = np.where((shares[0] > 0.6) & free, tissue, 0)
    candidates = np.argwhere((suitable > 0) & (suitable >= 0.9 * suitable.max()))
    if not len(candidates):
        raise MMCCDError(f"a phantom's brain has no room left for a lesion of {lesion.radius} mm: simulate fewer lesions.")
    centre = candidates[random.integers(len(candidates))]
    axes = lesion.radius * random.uniform(0.75, 1.3, size=3)
    positions = np.meshgrid(*(np.arange(edge) for edge in occupied.shape), indexing="ij", sparse=True)
    distance = np.sqrt(
        sum(
            ((position - middle) * spacing / axis) ** 2
            for position, middle, axis in zip(positions, centre, axes, strict=True)
        )
    )
    distance = distance + ROUGHNESS * smooth_field(occupied.shape, 0.5 * size, random)
    share = 1 / (1 + np.exp(np.clip((distance - 1) * lesion.radius / EDGE_MM * 2, -30, 30)))
    # Noise may make islands far outside; they have no business there.
    parts, _ = ndimage.label(share > 0.5)
    largest = np.argmax(np.bincount(parts.ravel())[1:]) + 1 if parts.any() else 0
    share = np.where(ndimage.binary_dilation(parts == largest, iterations=2), share, 0)
    return share.astype(np.float32)
