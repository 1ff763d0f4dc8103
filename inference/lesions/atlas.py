"""The average brain in parts: the tissue maps that ship inside nilearn (ICBM 2009a, symmetric), and regions made of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

RESOLUTION_MM = 2
MARGIN_MM = 16
DEEP_MM = 20.0
"""How far below the surface of the brain the fluid of the lateral ventricles lies, and that of sulci doesn't."""

FLUID_SHARE = 0.5
TENTORIUM_UNIT_MM = 50.0
TENTORIUM = (-9.7, -18.6, -17.9, -19.7, -5.1, -10.3, -10.9, -10.5, 4.1, -19.2)
"""Weights of 1, |x|, y, z, x^2, |x|y, |x|z, y^2, yz, z^2 (MNI space, RAS, in units of TENTORIUM_UNIT_MM): above 0 in
brainstem and cerebellum. Logistic regression on 20 segmented heads (SynthSeg's training label maps, Billot et al., Med.
Image Anal. 86, 2023, Apache-2.0) laid on the average brain; Dice 0.90 with the voxels where most of the 20 are
infratentorial (tests/benchmarks/fit_brain_regions.py)."""

DEEP_GREY_CENTRE, DEEP_GREY_RADII = (14.0, -4.0, 5.0), (19.0, 30.0, 17.0)
"""(|x|, y, z) in mm (MNI space, RAS) of the ellipsoid on either side that holds caudate, putamen, pallidum and thalamus,
with the internal capsule between them: of some tried, one that is like these in the same 20 heads (Dice 0.7; the best
had 0.75) and holds nine tenths of the phantom's."""

DEEP_GREY_MOST_WHITE = 0.7
CORTEX_APART, CORTEX_FROM_VENTRICLES_MM = 1.25, 6.0
"""Grey matter within the ellipsoid enlarged by this factor is no cortex; nor is what lines the ventricles, where the
average of fluid and white matter looks grey."""


@dataclass(frozen=True)
class Atlas:
    """The average brain on cubes of 2 mm (LPS, MNI space); all images are float32 on one grid.

    Attributes
    ----------
    t1 : brightness in a T1 scan, about 1 in white matter; 0 outside the brain
    brain : 1 in the brain
    white, grey, fluid : share of each voxel, 0..1; their sum is ``brain``
    ventricles : 1 in the lateral ventricles
    deep_grey : 1 in the basal ganglia and the thalamus
    cortex : 1 in the grey matter above the tentorium that is not deep grey matter
    infratentorial : 1 in the brainstem and the cerebellum
    left : mm from the plane between the halves; above 0 on the patient's left
    """

    t1: sitk.Image
    brain: sitk.Image
    white: sitk.Image
    grey: sitk.Image
    fluid: sitk.Image
    ventricles: sitk.Image
    deep_grey: sitk.Image
    cortex: sitk.Image
    infratentorial: sitk.Image
    left: sitk.Image


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """Load the average brain; nothing is downloaded."""
    # It takes a second to load, and most commands need no atlas.
    from nilearn.datasets import (
        load_mni152_brain_mask,
        load_mni152_gm_template,
        load_mni152_template,
        load_mni152_wm_template,
    )

    white_map = load_mni152_wm_template(resolution=RESOLUTION_MM)
    affine = np.asarray(white_map.affine)
    brain = np.asarray(load_mni152_brain_mask(resolution=RESOLUTION_MM).dataobj) > 0
    white, grey, t1 = (
        np.clip(np.asarray(image.dataobj, dtype=np.float32), 0, None) * brain
        for image in (
            white_map,
            load_mni152_gm_template(resolution=RESOLUTION_MM),
            load_mni152_template(resolution=RESOLUTION_MM),
        )
    )
    total = np.maximum(white + grey, 1)
    white, grey = white / total, grey / total
    fluid = brain - white - grey
    right, front, above = (
        (affine[axis, 3] + affine[axis, axis] * np.arange(edge)).reshape(np.roll((-1, 1, 1), axis))
        for axis, edge in enumerate(brain.shape)
    )
    ventricles = lateral_ventricles(fluid, brain)
    infratentorial = brain & _is_infratentorial(right, front, above)
    deep_grey = brain & _in_deep_grey(right, front, above) & ~ventricles & (white < DEEP_GREY_MOST_WHITE)
    lining = ndimage.distance_transform_edt(~ventricles) * RESOLUTION_MM < CORTEX_FROM_VENTRICLES_MM
    apart = _in_deep_grey(right, front, above, CORTEX_APART) | lining | infratentorial
    arrays = {
        "t1": t1 / np.percentile(t1[brain], 95),
        "brain": brain,
        "white": white,
        "grey": grey,
        "fluid": fluid,
        "ventricles": ventricles,
        "deep_grey": deep_grey,
        "cortex": (grey > 0.5) & ~apart,
        "infratentorial": infratentorial,
        "left": np.broadcast_to(-right, brain.shape),
    }
    return Atlas(**{name: _image(array, affine, "edge" if name == "left" else "constant") for name, array in arrays.items()})


def lateral_ventricles(fluid: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Find the lateral ventricles: the largest connected part of the fluid that lies deep in the brain.

    Parameters
    ----------
    fluid : float, share of each voxel of RESOLUTION_MM
    brain : bool, of the same shape

    Returns
    -------
    bool, of the same shape
    """
    depth = ndimage.distance_transform_edt(brain) * RESOLUTION_MM
    labels, count = ndimage.label((fluid > FLUID_SHARE) & (depth > DEEP_MM))
    if not count:
        return np.zeros_like(brain)
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


def _in_deep_grey(right: np.ndarray, front: np.ndarray, above: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Check whether points of MNI space (mm, RAS) lie in the ellipsoids around the basal ganglia and the thalamus."""
    distance = sum(
        ((axis - centre) / (scale * radius)) ** 2
        for axis, centre, radius in zip((np.abs(right), front, above), DEEP_GREY_CENTRE, DEEP_GREY_RADII, strict=True)
    )
    return distance < 1


def _is_infratentorial(right: np.ndarray, front: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Check whether points of MNI space (mm, RAS) lie below the tentorium, by TENTORIUM."""
    side, front, above = np.abs(right) / TENTORIUM_UNIT_MM, front / TENTORIUM_UNIT_MM, above / TENTORIUM_UNIT_MM
    terms = (1, side, front, above, side**2, side * front, side * above, front**2, front * above, above**2)
    return sum(weight * term for weight, term in zip(TENTORIUM, terms, strict=True)) > 0


def _image(array: np.ndarray, affine: np.ndarray, beyond: Literal["edge", "constant"]) -> sitk.Image:
    """Turn [x, y, z] of RAS as a float image in LPS with a margin, which ``beyond`` fills as numpy.pad does."""
    room = MARGIN_MM // RESOLUTION_MM
    padded = np.pad(np.asarray(array, dtype=np.float32), room, mode=beyond)
    image = sitk.GetImageFromArray(np.ascontiguousarray(padded.transpose(2, 1, 0)[:, ::-1, ::-1]))
    first = affine[:3, 3] - MARGIN_MM
    last = first + RESOLUTION_MM * (np.array(padded.shape) - 1)
    image.SetSpacing((float(RESOLUTION_MM),) * 3)
    image.SetOrigin((-float(last[0]), -float(last[1]), float(first[2])))
    return image
