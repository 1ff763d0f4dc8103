"""The brain mask of a volume that was brain-extracted at its source, and the recognition of one that was not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError

VALUE_TOLERANCE = 1e-4
RINGING_TOLERANCE = 1e-3
RINGING_FRACTION = 0.05
FACE_SHARE = 0.5
EDGE_SHARE = 0.8
LARGEST_BRAIN_ML = 2300.0
LARGEST_BRAIN_SECTION_MM2 = 23000.0
DUST_FRACTION = 0.01
SKULL_ADVICE = (
    "give a brain-extracted volume or a brain mask file (brain_masksTr/CASE.nii.gz), or let mmccd_import make the dataset, "
    "which finds the brain"
)


@dataclass(frozen=True)
class BrainMaskReport:
    """What the background of a volume says about the brain.

    Attributes
    ----------
    mask : bool [z, y, x], the brain; of a volume that is not usable what differs from the background, all False where
        there is no background
    skull : the head is still around the brain
    reason : why the volume can't be used, as the end of the sentence "FILE ..."; empty for a usable volume
    background : the constant value around the brain, None where there is none
    """

    mask: np.ndarray
    skull: bool
    reason: str
    background: float | None

    @property
    def usable(self) -> bool:
        """The mask is a brain's."""
        return not self.reason


def find_brain(array: np.ndarray, spacing: tuple[float, float, float], name: str) -> np.ndarray:
    """Find the brain of a brain-extracted volume.

    Parameters
    ----------
    array : [z, y, x], any numeric type
    spacing : mm along x, y, z
    name : file or case and modality, named in errors

    Returns
    -------
    bool [z, y, x]

    Raises
    ------
    MMCCDError
        If the skull is still on, or there is nothing but background.
    """
    report = examine_brain(array, spacing)
    if not report.usable:
        raise MMCCDError(f"{name} {report.reason}")
    return report.mask


def examine_brain(array: np.ndarray, spacing: tuple[float, float, float]) -> BrainMaskReport:
    """Find the brain and say whether the volume is brain-extracted; raises nothing.

    The background is the value that at least half of the voxels on the faces of the volume and nearly all on its twelve
    edges share (a brain that fills a tightly cut volume touches faces, never most of the edges). Where fewer than 5 % of
    the other voxels lie below it, these are the ringing of a resampling and count as background too; where more do, the
    volume holds z-scores around a background of 0 and every voxel that differs counts. Holes in any
    plane are filled, and specks below 1 % of the largest part are dropped.

    Parameters as in :func:`find_brain`.
    """
    array = np.asarray(array)
    nothing = np.zeros(array.shape, dtype=bool)
    if not np.isfinite(array).all():
        return BrainMaskReport(nothing, False, "holds values that are not finite: fix or leave out the file.", None)
    background, tolerance = background_value(array)
    if background is None:
        return BrainMaskReport(
            nothing, True, f"still has the skull (there is no constant background): {SKULL_ADVICE}.", None
        )
    foreground = _foreground(array, background, tolerance)
    if not foreground.any():
        return BrainMaskReport(
            nothing, False, "holds one constant value and no brain: fix or leave out the file.", background
        )
    mask = clean_mask(foreground)
    reason = _too_large(mask, spacing)
    return BrainMaskReport(mask, bool(reason), reason, background)


def clean_mask(mask: np.ndarray) -> np.ndarray:
    """Fill the holes of each plane along each axis, and with them those in 3D, and drop parts below 1 % of the largest.

    The result is bool [z, y, x].
    """
    # Modalities that were brain-extracted by one mask have one foreground.
    return _cleaned(np.packbits(mask).tobytes(), mask.shape).copy()


@lru_cache(maxsize=1)
def _cleaned(packed: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Compute :func:`clean_mask` of a mask that is packed into bits."""
    mask = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=math.prod(shape)).reshape(shape).view(bool)
    cleaned = np.zeros(shape, dtype=bool)
    if not mask.any():
        return cleaned
    box = bounding_box_to_slice(get_bbox_from_mask(mask))
    part = _without_dust(mask[box])
    filled = part.copy()
    for axis in range(3):
        filled |= _holes(part, tuple(other for other in range(3) if other != axis))
    cleaned[box] = filled
    return cleaned


def background_value(array: np.ndarray) -> tuple[float | None, float]:
    """Compute the constant value around the brain and the tolerance within which it is constant; None where there is none.

    Parameters
    ----------
    array : [z, y, x], finite
    """
    faces = np.concatenate([np.take(array, end, axis=axis).ravel() for axis in range(3) for end in (0, -1)])
    value = float(np.median(faces))
    scale = float(np.abs(np.percentile(array[::2, ::2, ::2], (0.5, 99.5)) - value).max())
    tolerance = VALUE_TOLERANCE * (scale or float(np.abs(array - value).max()))
    if np.mean(np.abs(faces - value) <= tolerance) < FACE_SHARE:
        return None, tolerance
    if np.mean(np.abs(_edges(array) - value) <= tolerance) < EDGE_SHARE:
        return None, tolerance
    return value, tolerance


def _edges(array: np.ndarray) -> np.ndarray:
    """Compute the voxels on the twelve edges of the volume."""
    lines = []
    for axis in range(3):
        along = np.moveaxis(array, axis, 0)
        lines += [along[:, first, second] for first in (0, -1) for second in (0, -1)]
    return np.concatenate(lines)


def _foreground(array: np.ndarray, background: float, tolerance: float) -> np.ndarray:
    """Compute the voxels that differ from the background and are no ringing; bool [z, y, x]."""
    below = array < background - tolerance
    above = array > background + tolerance
    if not is_ringing(array[below | above], background):
        return below | above
    bright = float(np.percentile(array[above], 99)) if above.any() else background
    return array > background + max(tolerance, RINGING_TOLERANCE * (bright - background))


def is_ringing(others: np.ndarray, background: float) -> bool:
    """Check whether so few of the voxels that differ from the background lie below it that they are ringing."""
    return bool(np.count_nonzero(others < background) < RINGING_FRACTION * max(1, len(others)))


def _too_large(mask: np.ndarray, spacing: tuple[float, float, float]) -> str:
    """Explain why the mask is a head and no brain; empty for a brain."""
    edges = np.asarray(spacing[::-1], dtype=float)
    volume = np.count_nonzero(mask) * float(edges.prod()) / 1000
    sections = [
        np.count_nonzero(mask, axis=tuple(other for other in range(3) if other != axis)).max() * edges.prod() / edges[axis]
        for axis in range(3)
    ]
    if volume > LARGEST_BRAIN_ML:
        return f"still has the skull ({volume:.0f} ml differ from the background, more than any brain): {SKULL_ADVICE}."
    if max(sections) > LARGEST_BRAIN_SECTION_MM2:
        area = max(sections) / 100
        return f"still has the skull (its largest section is {area:.0f} cm2, more than any brain's): {SKULL_ADVICE}."
    return ""


def _without_dust(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= DUST_FRACTION * sizes.max())[labels]


def _holes(mask: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Compute the background that ``mask`` encloses when one moves along ``axes`` only; bool of the mask's shape."""
    neighbours = np.zeros((3, 3, 3), dtype=bool)
    neighbours[1, 1, 1] = True
    for axis in axes:
        for step in (0, 2):
            position = [1, 1, 1]
            position[axis] = step
            neighbours[tuple(position)] = True
    labels, count = ndimage.label(~mask, structure=neighbours)
    enclosed = np.ones(count + 1, dtype=bool)
    enclosed[0] = False
    for axis in axes:
        for end in (0, -1):
            enclosed[np.take(labels, end, axis=axis)] = False
    return enclosed[labels]


def trimmed_brain(brain: np.ndarray, spacing: tuple[float, float, float], trim_mm: float, name: str) -> np.ndarray:
    """Make a brain smaller all around.

    Parameters
    ----------
    brain : bool [z, y, x]
    spacing : mm along x, y, z
    trim_mm : of the outermost voxels' distance from what is outside, which the volume's border is as well
    name : of the scan, for errors

    Returns
    -------
    bool [z, y, x], the voxels whose centres lie further inside than that

    Raises
    ------
    MMCCDError
        If nothing is left.
    """
    distance = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=spacing[::-1])[1:-1, 1:-1, 1:-1]
    # The edge lies between two voxels: half a voxel before the centre of the first one outside.
    left = distance - min(spacing) / 2 > trim_mm
    if not left.any():
        raise MMCCDError(f"{name}: without {trim_mm:g} mm at its edge nothing is left of the brain: trim less.")
    return left
