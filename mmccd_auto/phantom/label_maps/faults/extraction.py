"""What an extraction takes for brain: an outline that is wide or tight, with leftovers of dura and skull, and bites."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

from mmccd_auto.phantom.fields import smooth_field
from mmccd_auto.phantom.label_maps.anatomy import COARSE, Anatomy
from mmccd_auto.phantom.label_maps.sampling import linear_weights, sampled
from mmccd_auto.phantom.label_maps.structures import AROUND_THE_BRAIN, STRUCTURES, is_one_of

SMOOTHNESS_MM = 4.0
CLOSED_MM = 8.0
STEP = 2
"""The brain's mask is closed and smoothed on every second voxel along each axis."""
OUTLINE = (0.35, 0.75)
"""The outline lies where the brain's smoothed mask has this value: wide outlines keep the fluid around the brain."""
SHARE_OF_WIDE = 0.4
"""Of extractions that keep what lies between the brain and the outline, whatever it is."""
DEEP_INSIDE = 0.7
PATCH_SMOOTHNESS_MM = (7.0, 20.0)
PATCH_LEVEL = 0.8
"""A patch is where a smooth field is above this many standard deviations, and at its full strength 1.5 above that."""
STEEPEST = 0.999


def closeness(anatomy: Anatomy) -> np.ndarray:
    """Compute how far inside the brain each voxel lies; float32 [z, y, x], 0.5 at the surface.

    The brain's mask, whose sulci and cisterns are closed as an extraction closes them, smoothed by 4 mm.
    """
    brain = is_one_of(anatomy.numbers, [number for number, one in STRUCTURES.items() if one.brain])
    edge = STEP * anatomy.edge
    coarse = brain[::STEP, ::STEP, ::STEP]
    reached = ndimage.distance_transform_edt(~coarse) * edge <= CLOSED_MM
    # Without a border the volume's end would count as brain.
    beyond = ndimage.distance_transform_edt(np.pad(reached, 1))[1:-1, 1:-1, 1:-1] * edge > CLOSED_MM
    near = ndimage.gaussian_filter((coarse | beyond).astype(np.float32), SMOOTHNESS_MM / edge)
    sizes = zip(brain.shape, coarse.shape, strict=True)
    return sampled(near, [linear_weights(size, STEP, points) for size, points in sizes])


def draw_outline(anatomy: Anatomy, near: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw what an extraction without faults keeps of an anatomy; bool of its shape.

    Parameters
    ----------
    near : see :func:`closeness`
    """
    kept = near > random.uniform(*OUTLINE)
    if random.random() > SHARE_OF_WIDE:
        outside = [number for number, one in STRUCTURES.items() if not one.brain and number != AROUND_THE_BRAIN]
        kept &= ~is_one_of(anatomy.numbers, outside) | (near > DEEP_INSIDE)
    return kept


def add_leftovers(
    kept: np.ndarray, near: np.ndarray, edge: float, random: np.random.Generator, strength: float
) -> np.ndarray:
    """Let the outline reach further out in patches, whatever lies there: fluid, dura, skull, fat.

    Parameters
    ----------
    kept : bool [z, y, x], an outline
    near : see :func:`closeness`
    edge : mm, of the voxels
    random : everything is drawn from it
    strength : mm by which patches reach beyond the brain's smoothed surface at most

    Returns
    -------
    bool [z, y, x], ``kept`` and more
    """
    if strength == 0:
        return kept
    reach = _patches(kept.shape, edge, random)
    return kept | ((near > _level(-strength * reach)) & (reach > 0))


def bite(kept: np.ndarray, near: np.ndarray, edge: float, random: np.random.Generator, strength: float) -> np.ndarray:
    """Let the outline cut into the brain in patches.

    The parameters are those of :func:`add_leftovers`; the result is ``kept`` or less.
    """
    if strength == 0:
        return kept
    depth = _patches(kept.shape, edge, random)
    # Outside of the patches nothing is taken away, however far out the outline lies.
    return kept & ((near > _level(strength * depth)) | (depth == 0))


def _patches(shape: tuple[int, ...], edge: float, random: np.random.Generator) -> np.ndarray:
    """Smooth patches with values within [0, 1]; float32 of the shape."""
    coarse = tuple(-(-size // COARSE) + 1 for size in shape)
    field = smooth_field(coarse, random.uniform(*PATCH_SMOOTHNESS_MM) / (COARSE * edge), random)
    weights = [linear_weights(size, COARSE, points) for size, points in zip(shape, coarse, strict=True)]
    return sampled(np.clip((field - PATCH_LEVEL) / 1.5, 0, 1), weights)


def _level(depth_mm: np.ndarray) -> np.ndarray:
    """Compute the value of the smoothed mask at a depth below the brain's surface; negative outside of it."""
    return np.clip(ndtr(depth_mm / SMOOTHNESS_MM), 1 - STEEPEST, STEEPEST)
