"""Whether a scan is what the model was trained on, by the fingerprint of its training scans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np

from mmccd_auto.imaging.true_zero import find_true_zero
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.prediction.without_lesion import features_of_halves, features_without_lesion
from mmccd_auto.plans.case_fingerprint import Percentile
from mmccd_auto.plans.fingerprint import CaseFingerprint, DatasetFingerprint, ModalityFingerprint
from mmccd_auto.plans.measures import PERCENTILES, depth_profile

SMALLEST_SPREAD = 0.06
"""Training scans of one scanner are alike; another scanner may differ by this much (of the range from P2 to P90)."""

UNLIKE = 4.0
CLEARLY_CLOSER = 1.5
"""Times (1 + 1 / cases): few training scans say little of how scans of a modality differ."""
CLOSER_IN_PARTS = 1.25
"""Likewise, of each part of a scan that a lesion may have left as it was: parts vary more than whole scans."""

SPACING_FACTOR = 1.5
BRAIN_VOLUME_FACTOR = 1.25


def input_warnings(
    array: np.ndarray,
    brain: np.ndarray,
    spacing: tuple[float, float, float],
    slice_axis: str,
    modality: str,
    fingerprint: DatasetFingerprint,
) -> list[str]:
    """Compare a scan with the training scans.

    Parameters
    ----------
    array : [z, y, x] in LPS, intensities
    brain : bool [z, y, x], not empty
    spacing : mm along x, y, z in LPS
    slice_axis : along which the model cuts slices
    modality : that the model examines
    fingerprint : of the model's dataset

    Returns
    -------
    a sentence for each way in which the scan lies outside of what the model has seen; empty for a usual scan
    """
    cases = list(fingerprint.cases.values())
    found = [_contrast_warning(array, brain, spacing, modality, fingerprint)]
    found += _spacing_warnings(spacing, slice_axis, cases)
    found.append(_volume_warning(float(np.count_nonzero(brain) * np.prod(spacing) / 1000), cases))
    return [sentence for sentence in found if sentence]


def zero_warnings(scan: Volume) -> list[str]:
    """Say in a sentence where a scan's zero is lost; an empty list for others."""
    if find_true_zero(scan).known:
        return []
    return [
        "the brain lies on both sides of its background or far from it, which no longer says where its signal counts from "
        "(z-scores inside the brain, say): shading is corrected by a guess, so give the scan before it was standardised"
    ]


def modality_distances(
    array: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float], fingerprint: DatasetFingerprint
) -> dict[str, float]:
    """Measure how unlike the training scans of each modality a scan is.

    Root mean square of its features' deviations, in units of their spread; about 1 for a usual scan. Percentiles and the
    depth profile are free of the scanner's scale.
    """
    return _distances(_features_of(array, brain, spacing), fingerprint)


def _distances(own: np.ndarray, fingerprint: DatasetFingerprint) -> dict[str, float]:
    """Work as :func:`modality_distances`, of a scan's features."""
    distances = {}
    for modality in fingerprint.modalities:
        known = [_features(case.modalities[modality]) for case in fingerprint.cases.values() if modality in case.modalities]
        if known:
            middle, spread = np.mean(known, axis=0), np.maximum(np.std(known, axis=0), SMALLEST_SPREAD)
            distances[modality] = float(np.sqrt(np.mean(((own - middle) / spread) ** 2)))
    return distances


def _contrast_warning(
    array: np.ndarray,
    brain: np.ndarray,
    spacing: tuple[float, float, float],
    modality: str,
    fingerprint: DatasetFingerprint,
) -> str:
    distances = modality_distances(array, brain, spacing, fingerprint)
    if modality not in distances:
        return ""
    # A large lesion is no reason to doubt the modality: it may be what makes the whole unlike, so every part has to be.
    measured = (*features_of_halves(array, brain, spacing), *features_without_lesion(array, brain, spacing))
    parts = [_distances(_scaled(*one), fingerprint) for one in measured]
    cases = sum(modality in case.modalities for case in fingerprint.cases.values())
    doubts = [_is_another(distances, modality, CLEARLY_CLOSER * (1 + 1 / cases))]
    # A part that is unlike everything, such as the half with the lesion, says nothing.
    telling = [one for one in parts if min(one.values()) <= UNLIKE]
    doubts += [_is_another(one, modality, CLOSER_IN_PARTS * (1 + 1 / cases)) for one in telling]
    if all(doubts):
        return f"this looks like a {min(distances, key=distances.__getitem__)}, the model expects {modality}"
    if min(one[modality] for one in (distances, *parts)) > UNLIKE:
        return f"the contrast is unlike that of the {modality} scans that the model was trained on"
    return ""


def _is_another(distances: dict[str, float], modality: str, factor: float) -> bool:
    """Check whether another modality is closer, by more than a factor."""
    closest = min(distances, key=distances.__getitem__)
    return closest != modality and distances[modality] > factor * distances[closest]


def _spacing_warnings(spacing: tuple[float, float, float], slice_axis: str, cases: list[CaseFingerprint]) -> list[str]:
    across = {"sagittal": 0, "coronal": 1, "axial": 2}[slice_axis]
    found = []
    for what, axes in (("slices", [across]), ("pixels", [axis for axis in range(3) if axis != across])):
        own = max(spacing[axis] for axis in axes)
        known = [max(case.spacing[axis] for axis in axes) for case in cases]
        if not min(known) / SPACING_FACTOR <= own <= max(known) * SPACING_FACTOR:
            found.append(
                f"the {what} are {own:.2g} mm apart, in training they were {_range(min(known), max(known), '.2g')} mm apart"
            )
    return found


def _volume_warning(volume: float, cases: list[CaseFingerprint]) -> str:
    known = [case.brain_volume for case in cases]
    if min(known) / BRAIN_VOLUME_FACTOR <= volume <= max(known) * BRAIN_VOLUME_FACTOR:
        return ""
    return (
        f"the brain takes {volume:.0f} ml, in training it took {_range(min(known), max(known), '.0f')} ml: look whether the "
        "brain was found rightly and is in the scan as a whole"
    )


def _range(low: float, high: float, style: str) -> str:
    lowest, highest = format(low, style), format(high, style)
    return lowest if lowest == highest else f"{lowest} to {highest}"


def _features(fingerprint: ModalityFingerprint) -> np.ndarray:
    return _scaled([fingerprint.percentiles[key] for key in get_args(Percentile)], fingerprint.depth_profile)


def _features_of(array: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    return _scaled(np.percentile(array[brain], PERCENTILES), depth_profile(array, brain, spacing))


def _scaled(percentiles: Iterable[float], profile: Sequence[float]) -> np.ndarray:
    """Compute the features.

    Percentiles on a scale from P2 to P90, without these two and the noisy lowest one, and the profile.
    """
    values = dict(zip(PERCENTILES, percentiles, strict=True))
    low, high = values[2.0], values[90.0]
    scaled = [(value - low) / max(high - low, 1e-12) for key, value in values.items() if key not in (0.5, 2.0, 90.0)]
    return np.array([*scaled, *profile])
