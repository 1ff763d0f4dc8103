"""Anomalies of structure: tissue pushed aside, and detail lost or covered by noise. No tissue changes its intensity."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmccd_auto.synthetic_anomalies.blob import EDGE_MM, Blob, smooth_noise
from mmccd_auto.synthetic_anomalies.block import HealthyBlock, continued_beyond_brain

PUSH_MM = (2.0, 8.0)
LARGEST_PUSH = 0.4
GROWTH = (0.4, 0.7)
SMOOTHING_MM = (2.0, 5.0)
ADDED_NOISE = (0.3, 0.9)
NOISE_SMOOTHNESS_PIXELS = (0.0, 0.8)


def deformation(block: HealthyBlock, blob: Blob, random: np.random.Generator) -> np.ndarray:
    """Displace the tissue smoothly within the slices: a growth that pushes outwards, and a push to one side.

    A displacement fades out towards the blob's border as (1 - d^2)^2, whose steepest slope is 1.54 per radius. A push of at
    most 0.4 radii and a growth below 1 therefore fold nothing. Slices are not mixed with each other, which would blur
    thick ones.

    Parameters
    ----------
    block : the slices
    blob : the place
    random : source of the draws

    Returns
    -------
    float64 [S, H, W], normalised
    """
    share = random.uniform()
    push = share * min(random.uniform(*PUSH_MM), LARGEST_PUSH * blob.radius)
    growth = (1 - share) * random.uniform(*GROWTH)
    angle = random.uniform(0, 2 * np.pi)
    fading = np.clip(1 - (blob.distance / (1 + EDGE_MM / blob.radius)) ** 2, 0, 1) ** 2
    rows, columns = np.mgrid[tuple(slice(edge) for edge in block.image.shape[1:])].astype(np.float64)
    altered = block.image.astype(np.float64)
    continued = continued_beyond_brain(block)
    for index in np.flatnonzero((fading > 0).any(axis=(1, 2))):
        moved = [
            positions - fading[index] * (push * direction / edge + growth * (positions - middle))
            for positions, direction, edge, middle in zip(
                (rows, columns), (np.sin(angle), np.cos(angle)), block.spacing[1:], blob.centre[1:], strict=True
            )
        ]
        # Linear interpolation would take detail away, which is another kind of anomaly.
        altered[index] = ndimage.map_coordinates(continued[index].astype(np.float64), moved, order=3, mode="nearest")
    return altered


def texture(block: HealthyBlock, blob: Blob, random: np.random.Generator) -> np.ndarray:
    """Take detail away by smoothing within the slices, or cover it with noise; either is drawn with equal chance.

    Parameters
    ----------
    block : the slices
    blob : the place
    random : source of the draws

    Returns
    -------
    float64 [S, H, W], normalised
    """
    image = block.image.astype(np.float64)
    if random.uniform() < 0.5:
        return image + blob.weight * (_smoothed(block, random.uniform(*SMOOTHING_MM)) - image)
    smoothness = max(block.spacing[1:]) * random.uniform(*NOISE_SMOOTHNESS_PIXELS)
    noise = np.stack([smooth_noise(image.shape[1:], block.spacing[1:], smoothness, random) for _ in image])
    return image + blob.weight * random.uniform(*ADDED_NOISE) * noise


def _smoothed(block: HealthyBlock, deviation: float) -> np.ndarray:
    """Compute the mean of the brain pixels around each one of a slice.

    Weighted by a Gaussian of ``deviation`` mm, at least a pixel.
    """
    sigmas = (0.0, *(max(deviation / edge, 1.0) for edge in block.spacing[1:]))
    weights, sums = (
        ndimage.gaussian_filter(values, sigmas, mode="constant")
        for values in (block.brain.astype(np.float64), np.where(block.brain, block.image, 0).astype(np.float64))
    )
    return np.where(block.brain, sums / np.maximum(weights, 1e-9), block.image)
