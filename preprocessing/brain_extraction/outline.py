"""Whether the outline of a brain lies where a brain ends: by its volume, its shape, and the scan along its normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Volume, image_from_array
from mmccd_auto.preprocessing.brain_extraction.background import with_dark_background
from mmccd_auto.preprocessing.brain_extraction.plausibility import LARGE_ML, SMALL_ML, millilitres, share_in_view
from mmccd_auto.preprocessing.brain_extraction.template_registration import coarsened

WORKING_MM = 2.0
CORE_MM = 8.0
REACH_MM = 16
OUTER_MM, GAP_MM, DEEP_MM = (-1, 5), (-11, -1), -12
"""Where along a normal (negative inside) scalp, skull and brain would lie if the outline followed the scalp."""

STEP_MM = 5
FLAT_STEP = 0.1
MOST_SKULL, MOST_FLAT = 0.42, 0.3
"""Shares of the upper outline: with a dark gap and brighter tissue beyond it inside the outline; and without an edge."""

LEAST_SYMMETRY, LEAST_COMPACTNESS = 0.85, 0.75
FAILED = 1.4
"""How far beyond its limit a single sign must lie to mean that the extraction failed; of two signs, any distance does."""


@dataclass(frozen=True)
class Doubt:
    """What speaks against an outline.

    Attributes
    ----------
    signs : by clause, how far its limit is exceeded: above 1
    """

    signs: dict[str, float]

    @property
    def size(self) -> float:
        """0 where nothing speaks against the outline; else how much does, for comparing outlines of one scan."""
        return sum(self.signs.values())

    @property
    def failed(self) -> bool:
        """The outline can't be used."""
        return len(self.signs) > 1 or max(self.signs.values(), default=0.0) >= FAILED

    def __str__(self) -> str:
        return ", ".join(self.signs)


def doubt_outline(volume: Volume, mask: np.ndarray) -> Doubt:
    """Examine the outline of a brain in a scan of the whole head.

    No outline that looked right, of 53 scans of T1, T2 and FLAIR, exceeds a limit
    (documentation/measurements/hospital_exports.md).

    Parameters
    ----------
    volume : scan with skull, finite
    mask : bool [z, y, x], not empty
    """
    signs = {}
    size, view = millilitres(mask, volume.geometry), share_in_view(volume.geometry)
    if size < SMALL_ML * view:
        signs[f"{size:.0f} ml are little for a brain"] = SMALL_ML * view / size
    if size > LARGE_ML:
        signs[f"{size:.0f} ml are much for a brain"] = size / LARGE_ML
    image, brain = _on_cubes(volume, mask)
    compactness, symmetry = _compactness(brain), _symmetry(brain)
    if compactness < LEAST_COMPACTNESS:
        signs["its surface is ragged"] = LEAST_COMPACTNESS / max(compactness, 1e-3)
    if symmetry < LEAST_SYMMETRY:
        signs["left and right differ"] = (1 - symmetry) / (1 - LEAST_SYMMETRY)
    along = _profiles(image, brain)
    if along is None:
        return Doubt(signs)
    skull, flat = _skull_share(*along), _flat_share(*along)
    if skull > MOST_SKULL:
        signs[f"the skull lies inside along {100 * skull:.0f} % of it"] = skull / MOST_SKULL
    if flat > MOST_FLAT:
        signs[f"{100 * flat:.0f} % of it lie on no edge of the scan"] = flat / MOST_FLAT
    return Doubt(signs)


def _on_cubes(volume: Volume, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scan and mask on cubes, canonical [z, y, x].

    The scan's 0.5th .. 99.5th percentile is 0..1; it is dark outside of the head.
    """
    turned = to_canonical(with_dark_background(volume))
    array = np.asarray(turned.array, dtype=np.float32)
    low, high = np.percentile(array, (0.5, 99.5))
    scaled = np.clip((array - low) / max(high - low, 1e-12), 0, 1)
    image = coarsened(image_from_array(scaled, turned.geometry), WORKING_MM)
    inside = to_canonical(Volume(mask.astype(np.float32), volume.geometry)).to_image()
    share = sitk.Resample(inside, image, sitk.Transform(), sitk.sitkLinear, 0.0)
    return sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(share) > 0.5


def _compactness(brain: np.ndarray) -> float:
    """Compute the surface of the ball of the same volume, relative to the brain's surface; 0..1."""
    padded = np.pad(brain, 1).astype(np.int8)
    # Faces of voxels overstate the area of a smooth surface by one half.
    area = sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in range(3)) * 2 / 3
    return float((36 * np.pi * np.count_nonzero(brain) ** 2) ** (1 / 3) / max(area, 1))


def _symmetry(brain: np.ndarray) -> float:
    """Compute the Dice of the brain and its mirror image, the plane of reflection being the best one near the middle.

    It is 0..1.
    """
    columns = np.flatnonzero(brain.any(axis=(0, 1)))
    middle = columns[0] + columns[-1]
    mirrored = np.pad(brain, ((0, 0), (0, 0), (8, 8)))
    overlaps = []
    for shift in range(middle - 6, middle + 7):
        # Voxel x of the mirror image is voxel shift - x.
        there = shift - np.arange(brain.shape[2]) + 8
        usable = (there >= 0) & (there < mirrored.shape[2])
        overlaps.append(int(np.count_nonzero(brain[:, :, usable] & mirrored[:, :, there[usable]])))
    return max(overlaps) / max(int(np.count_nonzero(brain)), 1)


def _profiles(image: np.ndarray, brain: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Sample the scan across the brain's outline.

    Distances (mm, negative inside) and the scan there, [points, distances], in units of the median deep in the brain, along
    the normals of the outline's upper half: further down bone, air and muscle look like anything. None for a brain without a
    core, or without an upper outline.
    """
    inner = ndimage.distance_transform_edt(brain) * WORKING_MM
    outer = ndimage.distance_transform_edt(~brain) * WORKING_MM
    core = inner > CORE_MM
    points = np.argwhere(brain & (inner <= WORKING_MM))
    points = points[points[:, 0] > np.argwhere(brain)[:, 0].mean()]
    if not core.any() or not len(points):
        return None
    signed = ndimage.gaussian_filter(np.where(brain, WORKING_MM / 2 - inner, outer - WORKING_MM / 2), 1.5)
    normals = np.stack(np.gradient(signed))
    normals /= np.maximum(np.linalg.norm(normals, axis=0), 1e-6)
    distances = np.arange(-REACH_MM, REACH_MM)
    at_points = (slice(None), *points.T)
    places = points.T[:, :, None] + normals[at_points][:, :, None] * (distances / WORKING_MM)
    middle = max(float(np.median(image[core])), 1e-6)
    return distances, ndimage.map_coordinates(image, places, order=1, mode="constant", cval=0.0) / middle


def _skull_share(distances: np.ndarray, values: np.ndarray) -> float:
    """Share of the points where something bright at the outline, a dark gap within it, and tissue deeper follow."""
    scalp = values[:, (distances >= OUTER_MM[0]) & (distances <= OUTER_MM[1])].max(axis=1)
    gap = values[:, (distances >= GAP_MM[0]) & (distances <= GAP_MM[1])].min(axis=1)
    deep = values[:, distances <= DEEP_MM].mean(axis=1)
    return float(((scalp > 1.2 * gap + 0.3) & (gap < 0.5 * deep)).mean())


def _flat_share(distances: np.ndarray, values: np.ndarray) -> float:
    """Share of the points where the scan is as bright outside of the outline as inside."""
    inside = values[:, (distances >= -STEP_MM) & (distances < 0)].mean(axis=1)
    outside = values[:, (distances > 0) & (distances <= STEP_MM)].mean(axis=1)
    return float((np.abs(inside - outside) < FLAT_STEP).mean())
