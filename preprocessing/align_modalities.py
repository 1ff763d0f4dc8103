"""From scans as a hospital hands them over to scans that can be trained on: one grid, and the brain found."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.labels import checked_brain_mask
from mmccd_auto.imaging.non_finite import settle_non_finite, with_zeros
from mmccd_auto.imaging.true_zero import find_true_zero
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.preprocessing.brain_extraction import BrainExtraction, extract_brain
from mmccd_auto.preprocessing.brain_extraction.outline import doubt_outline
from mmccd_auto.preprocessing.brain_extraction.plausibility import implausible
from mmccd_auto.preprocessing.registration import Registration, register, resample_onto

BELOW_BRAIN = 1e-3
"""Of the brain's range: beyond what counts as the same value, and too little to move the zero."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedCase:
    """The scans of one person on the grid of the reference modality.

    Attributes
    ----------
    volumes : by modality, the reference first; whole heads, as they came, with the warnings of their files
    brain : of the reference
    registrations : of each other modality onto the reference
    left_out : modality -> why it could not be used
    """

    volumes: dict[str, Volume]
    brain: BrainExtraction
    registrations: dict[str, Registration]
    left_out: dict[str, str]


def prepare_case(
    case: str,
    volumes: Mapping[str, Volume],
    reference: str,
    backend: str = "auto",
    brain_mask: Volume | None = None,
) -> PreparedCase:
    """Find the brain in the reference scan and lay the other scans on it.

    Parameters
    ----------
    case : named in errors
    volumes : by modality, each on a grid of its own, with or without skull
    reference : the modality that keeps its grid and its voxels
    backend : of the brain extraction, see :func:`extract_brain`
    brain_mask : 1 in the brain, on the reference's grid; then no brain is looked for

    Raises
    ------
    MMCCDError
        If the reference is missing, its brain can't be found, or its values there aren't finite. Another modality that
        can't be laid on it is left out.
    """
    if reference not in volumes:
        raise MMCCDError(f"{case} has no {reference}, onto which the other scans are laid: leave the case out.")
    fixed = volumes[reference]
    brain = _brain_of(case, volumes, reference, backend, brain_mask)
    fixed = settle_non_finite(fixed, brain.mask, f"{case}: {reference}")
    prepared, registrations, left_out = {reference: fixed}, {}, {}
    for modality, moving in volumes.items():
        if modality == reference:
            continue
        pair = f"{case}: {modality} and {reference}"
        try:
            found = register(fixed, with_zeros(moving), brain.mask, pair)
        except MMCCDError as error:
            left_out[modality] = str(error)
            continue
        registrations[modality] = found
        if not found.convincing:
            left_out[modality] = doubt_place(found, pair)
            continue
        laid = laid_onto(moving, fixed.geometry, found)
        try:
            prepared[modality] = settle_non_finite(laid, brain.mask, f"{case}: {modality}")
        except MMCCDError as error:
            left_out[modality] = str(error)
            continue
        logger.info("%s: %s, likeness %.3f", pair, describe_move(found), found.likeness)
    return PreparedCase(prepared, brain, registrations, left_out)


def _carried_brain(case: str, fixed: Volume, moving: Volume, modality: str, backend: str) -> BrainExtraction | None:
    """Return the brain of another scan, laid on the reference; None where it isn't found, or doesn't fit there."""
    try:
        found = extract_brain(moving, modality, backend, f"{case}: {modality}")
        place = register(fixed, moving, None, f"{case}: {modality}")
    except MMCCDError as error:
        logger.info("%s", error)
        return None
    if not place.convincing:
        return None
    share = Volume(found.mask.astype(np.float32), moving.geometry)
    mask = resample_onto(share, fixed.geometry, place.transform).array > 0.5
    if implausible(mask, fixed.geometry) or doubt_outline(fixed, mask).failed:
        return None
    return replace(found, mask=mask)


def brain_only(volume: Volume, brain: np.ndarray) -> Volume:
    """Put the intensity of no signal outside of the brain (a face can be recognised, a brain can't).

    Where the brain itself reaches it, a value just below the brain; but 0 stays 0 unless the brain goes below it.
    """
    lowest = float(volume.array[brain].min()) if brain.any() else 0.0
    background = find_true_zero(volume).value
    if lowest < background or lowest == background != 0:
        step = 1.0 if volume.array.dtype.kind in "iu" else BELOW_BRAIN * (float(volume.array[brain].max()) - lowest)
        background = lowest - step
    return Volume(np.where(brain, volume.array, np.asarray(background, dtype=volume.array.dtype)), volume.geometry)


def doubt_place(found: Registration, pair: str) -> str:
    """Explain what is wrong with a registration that isn't convincing and what to look at; ``pair`` names both scans."""
    return (
        f"{pair} could not be laid on each other with confidence (likeness {found.likeness:.3f}, hardly better "
        "than beside it): look whether they are of one person and show the same part of the head."
    )


def describe_move(found: Registration) -> str:
    """Describe how far a scan was moved onto another."""
    return f"moved by {found.shift:.1f} mm and {found.angle:.1f} degrees" if found.moved else "the headers agree"


def laid_onto(moving: Volume, geometry: Geometry, found: Registration) -> Volume:
    """Return ``moving`` on another grid, NaN where it mostly was so before; the same object where it lies there already."""
    if not found.moved and not moving.geometry.differences(geometry):
        return moving
    finite = with_zeros(moving)
    laid = resample_onto(finite, geometry, found.transform)
    if finite is not moving:
        bad = Volume((~np.isfinite(moving.array)).astype(np.float32), moving.geometry)
        laid.array[resample_onto(bad, geometry, found.transform).array > 0.5] = np.nan
    return Volume(laid.array, geometry, moving.warnings)


def _brain_of(
    case: str, volumes: Mapping[str, Volume], reference: str, backend: str, brain_mask: Volume | None
) -> BrainExtraction:
    """Return the brain in the reference.

    As it is given, as it is found there, or as it is found in another scan of the person.
    """
    volume = with_zeros(volumes[reference])
    if brain_mask is None:
        try:
            return extract_brain(volume, reference, backend, f"{case}: {reference}")
        except MMCCDError as error:
            failure = error
        for modality, other in volumes.items():
            carried = None if modality == reference else _carried_brain(case, volume, with_zeros(other), modality, backend)
            if carried is not None:
                warning = (
                    f"No brain was found in the {reference}, so that of the {modality} was laid on it: look at the mask."
                )
                return replace(carried, warning=" ".join([warning, carried.warning]).strip())
        raise failure
    differences = brain_mask.geometry.differences(volume.geometry)
    if differences:
        raise MMCCDError(
            f"{case}: the brain mask does not lie on the grid of {reference} ({'; '.join(differences)}): resample it."
        )
    mask = checked_brain_mask(brain_mask, f"{case}: the brain mask")
    return BrainExtraction(mask.array > 0, "given", 0.0, "")
