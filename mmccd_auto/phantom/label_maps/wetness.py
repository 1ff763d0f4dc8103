"""Where healthy tissue holds more or less water and myelin: unevenly everywhere, and by the distance to the ventricles."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmccd_auto.phantom.fields import smooth_field
from mmccd_auto.phantom.label_maps.anatomy import COARSE, Anatomy
from mmccd_auto.phantom.label_maps.sampling import linear_weights, sampled
from mmccd_auto.phantom.label_maps.structures import (
    CORTEX,
    LATERAL_VENTRICLES,
    STRUCTURES,
    WHITE,
    is_one_of,
    numbers_of,
)

UNEVEN = (0.02, 0.12)
UNEVEN_SMOOTHNESS_MM = (8.0, 25.0)
DEPTH_MM, DENSE = 7.0, (0.0, 1.0)
RIM_MM, RIM = (0.8, 2.2), (0.05, 0.4)
"""Reach of the rim into white matter and its wetness at the wall."""
CAP_MM, CAP, CAP_LENGTH_MM = (2.0, 5.0), (0.1, 0.5), 9.0
"""Caps: where the horns end, in front and behind, the wet tissue reaches further."""
BODIES = (4, 43)
"""Lateral ventricles without their inferior horns, a number for each side."""
END_SHARE = 0.01


def uneven_wetness(anatomy: Anatomy, random: np.random.Generator, strength: float) -> np.ndarray:
    """Draw how the water differs from place to place.

    Parameters
    ----------
    random : everything is drawn from it
    strength : standard deviation

    Returns
    -------
    float32 [z, y, x], mean 0
    """
    shares = random.dirichlet(np.ones(len(UNEVEN_SMOOTHNESS_MM)))
    fields = (
        np.sqrt(share) * smooth_on(anatomy, smoothness, random)
        for share, smoothness in zip(shares, UNEVEN_SMOOTHNESS_MM, strict=True)
    )
    return np.float32(strength) * sum(fields)


def denser_in_the_depth(anatomy: Anatomy, strength: float) -> np.ndarray:
    """Compute how much denser the myelin is in the brain's depth, around the ventricles too, than near the cortex.

    Parameters
    ----------
    strength : the largest difference

    Returns
    -------
    float32 [z, y, x], within [0, ``strength``], 0 far from the depth
    """
    below_cortex = [number for number, one in STRUCTURES.items() if one.brain and number not in CORTEX]
    coarse = is_one_of(anatomy.numbers[::COARSE, ::COARSE, ::COARSE], below_cortex).astype(np.float32)
    share = ndimage.gaussian_filter(coarse, DEPTH_MM / (COARSE * anatomy.edge))
    sizes = zip(anatomy.numbers.shape, coarse.shape, strict=True)
    # Every fourth voxel: what lies behind the last of them keeps its value.
    weights = [linear_weights(size, COARSE, points) for size, points in sizes]
    weights = [matrix / matrix.sum(axis=1, keepdims=True) for matrix in weights]
    return sampled(np.float32(strength) * np.clip(2 * share - 1, 0, 1), weights)


def ventricle_rim(anatomy: Anatomy, random: np.random.Generator, strength: float) -> np.ndarray:
    """Draw the thin rim of wet white matter along the lateral ventricles, and the caps on their horns.

    FLAIR shows both bright in healthy people; they are wider in old ones.

    Parameters
    ----------
    random : everything is drawn from it
    strength : wetness at the wall

    Returns
    -------
    float32 [z, y, x], within [0, ``strength``], above 0 in white matter only
    """
    white = is_one_of(anatomy.numbers, numbers_of(WHITE))
    if strength == 0:
        return np.zeros(white.shape, dtype=np.float32)
    ventricles = is_one_of(anatomy.numbers, LATERAL_VENTRICLES).astype(np.float32)
    # The smoothed mask is about 0.5 at a flat wall and half of that at a horn's tip; 1.6 deviations away it is a tenth.
    rim = ndimage.gaussian_filter(ventricles, random.uniform(*RIM_MM) / anatomy.edge)
    cap = ndimage.gaussian_filter(ventricles, random.uniform(*CAP_MM) / anatomy.edge)
    near_ends = np.maximum(*(_near_ends(anatomy, number) for number in BODIES))
    rim = np.maximum(rim, cap * near_ends[None, :, None] * 2 * random.uniform(*CAP))
    return np.where(white, np.float32(strength) * np.minimum(2 * rim, 1), 0).astype(np.float32)


def _near_ends(anatomy: Anatomy, number: int) -> np.ndarray:
    """Compute how near each row is to the front and back end of a structure, 0 to 1; float32 [y]."""
    rows = (anatomy.numbers == number).sum(axis=(0, 2))
    if not rows.any():
        return np.zeros(len(rows), dtype=np.float32)
    places, share = np.arange(len(rows)) * anatomy.edge, np.cumsum(rows) / rows.sum()
    ends = (places[np.searchsorted(share, END_SHARE)], places[np.searchsorted(share, 1 - END_SHARE)])
    near = sum(np.exp(-(((places - end) / CAP_LENGTH_MM) ** 2)) for end in ends)
    return np.minimum(near, 1).astype(np.float32)


def smooth_on(anatomy: Anatomy, smoothness_mm: float, random: np.random.Generator) -> np.ndarray:
    """Compute a smooth field over the anatomy, mean 0 and standard deviation 1, drawn on every fourth voxel; float32."""
    shape = anatomy.numbers.shape
    coarse = tuple(-(-size // COARSE) + 1 for size in shape)
    weights = [linear_weights(size, COARSE, points) for size, points in zip(shape, coarse, strict=True)]
    return sampled(smooth_field(coarse, smoothness_mm / (COARSE * anatomy.edge), random), weights)
