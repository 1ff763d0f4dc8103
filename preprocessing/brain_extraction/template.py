"""The built-in brain extraction: the average brain laid on the scan, then fitted to what the scan shows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.orientation import from_canonical, to_canonical
from mmccd_auto.imaging.volume import Volume, image_from_array
from mmccd_auto.preprocessing.brain_extraction.background import with_dark_background
from mmccd_auto.preprocessing.brain_extraction.head_template import load_head_template
from mmccd_auto.preprocessing.brain_extraction.interface import Backend
from mmccd_auto.preprocessing.brain_extraction.refinement import refine
from mmccd_auto.preprocessing.brain_extraction.template_registration import SCALES, coarsened, register_template

WORKING_MM = 2
"""Voxel edge at which the surface is sought; the mask is interpolated to the scan's own voxels."""

FAR_MM = 99.0
SHIFTS_MM = (0.0, 6.0, -5.0)
"""By how much the average surface is moved inwards in turn: where the scalp was taken for its edge, or the brain was cut."""

OTHER_SCALES = (SCALES, (0.7, 0.95))
"""Sizes of the average head at which its registration begins, in turn."""


class Template(Backend):
    """Works on any modality, needs nothing else, and is less exact than a trained network."""

    name = "template"

    def available(self) -> str:
        """See :class:`Backend`."""
        return ""

    def extract(self, volume: Volume, modality: str | None) -> np.ndarray:
        """See :class:`Backend`."""
        return next(self.tries(volume, modality))

    def tries(self, volume: Volume, modality: str | None) -> Iterator[np.ndarray]:
        """See :class:`Backend`."""
        turned = to_canonical(with_dark_background(volume))
        scan = _scaled(turned)
        for scales in OTHER_SCALES:
            affine = register_template(scan, self.name, scales)
            for shift in SHIFTS_MM:
                mask = _brain_near(scan, affine, shift)
                yield from_canonical(Volume(mask, turned.geometry), volume.geometry).array


def _brain_near(scan: sitk.Image, affine: sitk.AffineTransform, shift: float) -> np.ndarray:
    """Compute the brain near the average one, whose surface is moved inwards by ``shift`` mm; bool on the scan's grid."""
    working = coarsened(scan, WORKING_MM)
    distance = sitk.Resample(
        load_head_template(WORKING_MM).brain_distance, working, affine.GetInverse(), sitk.sitkLinear, FAR_MM
    )
    share = refine(sitk.GetArrayFromImage(working), sitk.GetArrayFromImage(distance) + np.float32(shift), float(WORKING_MM))
    found = sitk.GetImageFromArray(share)
    found.CopyInformation(working)
    # The grid of cubes may end half a slice before the scan does: the outermost share goes on.
    resample = sitk.ResampleImageFilter()
    resample.SetReferenceImage(scan)
    resample.SetInterpolator(sitk.sitkLinear)
    resample.SetUseNearestNeighborExtrapolator(True)
    return sitk.GetArrayFromImage(resample.Execute(found)) > 0.5


def _scaled(volume: Volume) -> sitk.Image:
    """Return the float image, the 0.5th .. 99.5th percentile scaled to 0..1."""
    array = np.asarray(volume.array, dtype=np.float32)
    low, high = np.percentile(array, (0.5, 99.5))
    if not high > low:
        raise MMCCDError("template needs a scan with contrast.")
    return image_from_array(np.clip((array - low) / (high - low), 0, 1), volume.geometry)
