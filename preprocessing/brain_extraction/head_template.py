"""An average head to register scans with: the brain that ships inside nilearn (ICBM 2009a), in a skull and scalp."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

SKULL_MM, HEAD_MM, MARGIN_MM = 6.0, 14.0, 30.0
"""Distance from the brain at which scalp, air and the space without meaning begin."""

NEAR_MM = 6.0
"""How far below the brain there is bone or air almost everywhere."""

SCALP_VALUE, AIR_VALUE = 1.25, -0.25
SHELL_FLOOR_MM = -22.0
SHELL_SLOPE = 0.28
"""Above this height at the origin, and this rise towards the forehead, the brain is surrounded by skull and scalp alone."""


@dataclass(frozen=True)
class HeadTemplate:
    """The average head on an isotropic grid (LPS, MNI space).

    Attributes
    ----------
    head : float image, T1-like; 0 for skull and air, about 1 for white matter, SCALP_VALUE for scalp
    region : uint8 image, 1 where ``head`` means anything: in the brain and near it, and further out where there is neither
        face nor neck
    brain_distance : float image, mm from the border of the brain; negative inside
    """

    head: sitk.Image
    region: sitk.Image
    brain_distance: sitk.Image


@lru_cache(maxsize=2)
def load_head_template(resolution: int) -> HeadTemplate:
    """Load the average head; nothing is downloaded.

    The brain is nilearn's T1 template (Fonov et al. 2011). It comes without a skull, so a dark shell for the skull and a
    bright one for the scalp are laid around it. Their thickness is that of an average adult.

    Parameters
    ----------
    resolution : mm, whole
    """
    # It takes a second to load, and most commands need no head.
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    image = load_mni152_template(resolution=resolution)
    brain = np.asarray(load_mni152_brain_mask(resolution=resolution).dataobj) > 0
    room = int(np.ceil((MARGIN_MM + 6) / resolution))
    brain = _turned(np.pad(brain, room))
    values = _turned(np.pad(np.asarray(image.dataobj, dtype=np.float32), room))
    origin = image.affine[:3, 3] - room * resolution
    distance = ndimage.distance_transform_edt(~brain) - ndimage.distance_transform_edt(brain)
    distance = (distance + np.where(brain, 0.5, -0.5)).astype(np.float32) * resolution
    values = np.where(brain, values / np.percentile(values[brain], 95), 0)
    values[(distance > SKULL_MM) & (distance <= HEAD_MM)] = SCALP_VALUE
    values[distance > HEAD_MM] = AIR_VALUE
    _, behind, above = (
        (first + resolution * np.arange(edge)).reshape(shape)
        for first, edge, shape in zip(
            _lowest(origin, brain.shape, resolution),
            reversed(brain.shape),
            ((1, 1, -1), (1, -1, 1), (-1, 1, 1)),
            strict=True,
        )
    )
    shell = (distance <= MARGIN_MM) & (above > SHELL_FLOOR_MM - SHELL_SLOPE * behind)
    region = (distance <= NEAR_MM) | shell
    arrays = (values.astype(np.float32), region.astype(np.uint8), distance)
    return HeadTemplate(*(_image(array, origin, brain.shape, resolution) for array in arrays))


def _turned(array: np.ndarray) -> np.ndarray:
    """Turn [x, y, z] of RAS to [z, y, x] of LPS."""
    return np.ascontiguousarray(array.transpose(2, 1, 0)[:, ::-1, ::-1])


def _lowest(origin: np.ndarray, shape: tuple[int, ...], resolution: int) -> tuple[float, float, float]:
    """Compute the position of the first voxel of the turned array, mm (LPS), from the first of the unturned one (RAS)."""
    last = origin + resolution * (np.array(shape[::-1]) - 1)
    return float(-last[0]), float(-last[1]), float(origin[2])


def _image(array: np.ndarray, origin: np.ndarray, shape: tuple[int, ...], resolution: int) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((float(resolution),) * 3)
    image.SetOrigin(_lowest(origin, shape, resolution))
    return image
