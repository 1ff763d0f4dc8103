"""The second fit of a scan's bias field and intensity scale, without the voxels that a first map marked.

A large lesion moves the first fit: N4 takes it for shading and divides it away, and the percentiles of the scale rise with
it. The second fit works on the slices that the first one made and on the few voxels of the scan that the bias field is
fitted to, so that a scan that is predicted and the stored slices that a calibration rests on go through the same function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.imaging.orientation import SLICE_AXIS_POSITION, from_slice_axis_first, slice_axis_first
from mmccd_auto.preprocessing.bias_field import FieldSamples, field_change
from mmccd_auto.preprocessing.normalisation import Parameters, apply_parameters, find_scheme
from mmccd_auto.preprocessing.preprocess_case import CaseGeometry


@dataclass(frozen=True)
class FirstFit:
    """How the intensities of a case were fitted at first.

    Attributes
    ----------
    parameters : "shift", "scale" and perhaps "upper" of the intensity scale
    scheme : name of the normalisation
    geometry : of the case
    samples : by which the bias field was fitted; None: there was none
    """

    parameters: Parameters
    scheme: str
    geometry: CaseGeometry
    samples: FieldSamples | None


@dataclass(frozen=True)
class Refitted:
    """Slices after the second fit.

    Attributes
    ----------
    image : float32 [S, H, W], exactly -3 outside the brain
    parameters : of the intensity scale, in place of those of the first fit
    """

    image: np.ndarray
    parameters: Parameters


def refit(
    image: np.ndarray, brain: np.ndarray, leave_out: np.ndarray, first: FirstFit, first_slice: int = 0
) -> Refitted | None:
    """Fit the bias field and the intensity scale of normalised slices again, without some of their pixels.

    The scale's parameters were found on the scan's own voxels, and percentiles of the resampled slices differ a little from
    those. So only what the second fit changes is taken from the slices: with nothing left out and no field found, the image
    stays as it was.

    Parameters
    ----------
    image : float32 [S, H, W], adjacent slices of one modality as :func:`preprocess_case` normalised them
    brain : bool [S, H, W]
    leave_out : bool [S, H, W]
    first : how they were fitted at first
    first_slice : number of the first of the slices in the volume

    Returns
    -------
    None where the pixels that are left are too few or have no contrast
    """
    kept, parameters = brain & ~leave_out, first.parameters
    intensities = np.where(brain, (image - BACKGROUND) / parameters["scale"] + parameters["shift"], 0).astype(np.float32)
    if not kept.any():
        return None
    corrected, bounds = intensities, {}
    if first.samples is not None:
        change = _field_change(leave_out, first.geometry, first.samples, first_slice)
        if change is None:
            return None
        corrected = intensities / change
        low, high = np.percentile(change[brain], (1, 99))
        bounds = {"second_bias_field_p1": float(low), "second_bias_field_p99": float(high)}
    find = find_scheme(first.scheme)
    before, after = (find(voxels.astype(np.float64)) for voxels in (intensities[brain], corrected[kept]))
    if not np.isfinite(before["scale"]) or not np.isfinite(after["scale"]):
        return None
    ratio = before["scale"] / after["scale"]
    changed = {
        **parameters,
        "shift": after["shift"] + (parameters["shift"] - before["shift"]) * ratio,
        "scale": parameters["scale"] / ratio,
    }
    normalised = np.full(image.shape, BACKGROUND, dtype=np.float32)
    normalised[brain] = apply_parameters(corrected[brain].astype(np.float64), changed)
    return Refitted(normalised, {**changed, **bounds})


def _field_change(
    leave_out: np.ndarray, geometry: CaseGeometry, samples: FieldSamples, first_slice: int
) -> np.ndarray | None:
    """Compute the field by which slices are to be divided, [S, H, W]."""
    canonical, grid = geometry.canonical, geometry.grid
    direction = np.array(grid.direction).reshape(3, 3)
    offset = direction.T @ (np.array(grid.origin) - np.array(canonical.origin))
    axis = 2 - SLICE_AXIS_POSITION[geometry.slice_axis]
    offset[axis] += first_slice * grid.spacing[axis]
    without = np.ascontiguousarray(from_slice_axis_first(leave_out, geometry.slice_axis))
    change = field_change(samples, without, tuple(offset.tolist()), grid.spacing)
    return None if change is None else np.ascontiguousarray(slice_axis_first(change, geometry.slice_axis))
