"""A person's other modalities for a map of the input modality: laid on its grid, or left out where that can't be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.brain_mask import examine_brain
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.imaging.limits import check_geometry
from mmccd_auto.imaging.non_finite import settle_non_finite, with_zeros
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.align_modalities import describe_move, doubt_place, laid_onto
from mmccd_auto.preprocessing.preprocess_case import LEAST_OVERLAP, PreprocessedCase, preprocess_channel
from mmccd_auto.preprocessing.registration import Registration, register, resample_onto


@dataclass(frozen=True)
class LaidModality:
    """A scan on the input modality's grid.

    Attributes
    ----------
    volume : finite
    brain : bool [z, y, x], where it shows the brain of the input modality
    how : it came there
    """

    volume: Volume
    brain: np.ndarray
    how: str


@dataclass(frozen=True)
class LaidModalities:
    """The other modalities of a person on the input modality's grid.

    Attributes
    ----------
    there : by modality
    left_out : modality -> why it can't be used
    """

    there: dict[str, LaidModality] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FurtherChannels:
    """The other modalities on the slices of a preprocessed case.

    Attributes
    ----------
    image : float32 [K, S, H, W] of the wanted modalities, exactly -3 outside the brain and where one is not there
    used : those that are there
    left_out : modality -> why it can't be used
    """

    image: np.ndarray
    used: tuple[str, ...]
    left_out: dict[str, str]


def lay_further(case: str, fixed: Volume, modality: str, brain: np.ndarray, others: Mapping[str, Volume]) -> LaidModalities:
    """Lay a person's other scans on the scan of the input modality; none of them can make the case fail.

    Parameters
    ----------
    case, modality : of the input scan, named in sentences
    fixed : the input scan, finite
    brain : bool [z, y, x], in it
    others : by modality, each on a grid of its own
    """
    laid = LaidModalities()
    for name, moving in others.items():
        try:
            laid.there[name] = _laid(f"{case}: {name} and {modality}", fixed, brain, moving, name)
        except MMCCDError as error:
            laid.left_out[name] = str(error)
    return laid


def further_channels(case: PreprocessedCase, laid: LaidModalities, wanted: Sequence[str], plan: Plan) -> FurtherChannels:
    """Bring the other modalities of a case onto the slices of its input modality.

    Parameters
    ----------
    case : the input modality, preprocessed
    laid : the others on its scan's grid
    wanted : in the order of the channels
    plan : gives their normalisation
    """
    image = np.full((len(wanted), *case.brain.shape), BACKGROUND, dtype=np.float32)
    left_out = {name: reason for name, reason in laid.left_out.items() if name in wanted}
    used = []
    for channel, name in enumerate(wanted):
        if name not in laid.there:
            continue
        one, scheme = laid.there[name], plan.normalisation[name]
        try:
            image[channel] = preprocess_channel(one.volume, one.brain, scheme, case.geometry, f"{case.case}: {name}")
            used.append(name)
        except MMCCDError as error:
            left_out[name] = str(error)
    return FurtherChannels(image, tuple(used), left_out)


def _laid(pair: str, fixed: Volume, brain: np.ndarray, moving: Volume, name: str) -> LaidModality:
    if moving.array.dtype.kind == "c":
        raise MMCCDError(f"{name} holds complex numbers: give the magnitude.")
    check_geometry(moving.geometry, name)
    moving = Volume(moving.array.astype(np.float32, copy=False), moving.geometry)
    finite = with_zeros(moving)
    found = register(fixed, finite, brain, pair)
    if not found.convincing:
        raise MMCCDError(doubt_place(found, pair))
    shown = brain & _field_of_view(moving.geometry, fixed.geometry, found)
    own = examine_brain(finite.array, moving.geometry.spacing)
    if own.usable:
        # Its brain alone is there; a scan with skull shows the brain wherever the input modality does.
        mask = Volume(own.mask.astype(np.float32), moving.geometry)
        shown &= resample_onto(mask, fixed.geometry, found.transform).array > 0.5
    share = int(np.count_nonzero(shown)) / max(1, int(np.count_nonzero(brain)))
    if share < LEAST_OVERLAP:
        raise MMCCDError(
            f"{pair}: {name} shows {100 * share:.0f} % of the brain only, {100 * LEAST_OVERLAP:.0f} % are needed: look "
            "whether it was scanned for another part of the head."
        )
    volume = settle_non_finite(laid_onto(moving, fixed.geometry, found), brain, pair)
    return LaidModality(with_zeros(volume), shown, describe_move(found))


def _field_of_view(moving: Geometry, fixed: Geometry, found: Registration) -> np.ndarray:
    """Find where the moving scan has voxels, bool [z, y, x] on the fixed one's grid."""
    inside = Volume(np.ones(moving.size[::-1], dtype=np.uint8), moving).to_image()
    size = [int(edge) for edge in fixed.size]
    place = (found.transform, sitk.sitkNearestNeighbor, fixed.origin, fixed.spacing, fixed.direction, 0)
    return sitk.GetArrayFromImage(sitk.Resample(inside, size, *place)) > 0
