"""Anomaly scores from what the cycle could not explain: brighter and darker than expected, apart and together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.smoothing import smooth_inside
from mmccd_auto.inference.maps.engine import SliceMaps
from mmccd_auto.inference.scores.healthy_error import HealthyError, place_of
from mmccd_auto.plans.plan import ScorePlan

Spacing = tuple[float, float, float]


def smoothings(score: ScorePlan) -> dict[str, float]:
    """List the standard deviations (mm) by which a sign's errors are smoothed, by the ending of the score's name."""
    if score.fine_smoothing_mm is None:
        return {"": score.smoothing_mm}
    return {"_fine": score.fine_smoothing_mm, "_coarse": score.smoothing_mm}


def signed_scores(
    maps: SliceMaps,
    brain: np.ndarray,
    indices: Sequence[int],
    spacing: Spacing,
    healthy: HealthyError,
    score: ScorePlan,
    counted: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Compare errors with healthy tissue at such places, and with the size of the scan's errors on the whole.

    Parameters
    ----------
    maps : of slices [S, H, W]
    brain : bool [S, H, W], not empty
    indices : of the slices in the volume; only neighbours are smoothed into each other
    spacing : mm between slices, rows and columns
    healthy : error to expect
    score : how far they are smoothed
    counted : bool [S, H, W], the part of the brain by whose errors the scan's own are measured, and which has a weight when
        they are smoothed; None: all of it

    Returns
    -------
    "brighter" and "darker" than the reconstruction, each with every ending of :func:`smoothings`: float32 [S, H, W], >= 0,
    and 0 outside the brain; 1 is about the 95th percentile of healthy pixels before smoothing
    """
    inside = brain if counted is None else counted
    relative = healthy.relative(maps.signed, place_of(maps.cycle, brain, spacing[1]))
    own_error = np.float32(healthy.own_error(relative, inside))
    return {
        f"{name}{ending}": smooth_in_brain(values / own_error, inside, indices, spacing, smoothing_mm)
        for name, values in relative.items()
        for ending, smoothing_mm in smoothings(score).items()
    }


def combine(units: Mapping[str, np.ndarray], plan: ScorePlan) -> np.ndarray:
    """Compute the larger of brighter and darker in calibrated units.

    The unexpected sign weighted by ``plan.other_weight``.
    """
    other = "darker" if plan.lesion_sign == "brighter" else "brighter"
    return np.maximum(units[plan.lesion_sign], np.float32(plan.other_weight) * units[other])


def smooth_in_brain(
    values: np.ndarray, brain: np.ndarray, indices: Sequence[int], spacing: Spacing, smoothing_mm: float
) -> np.ndarray:
    """Compute the Gaussian mean over the pixels of the brain nearby, in the slice and in the slices next to it.

    What lies outside the brain has no weight, so that a constant stays one up to the edge.

    Parameters
    ----------
    values : float [S, H, W]
    brain : bool [S, H, W]
    indices : of the slices in the volume; a gap between them isn't bridged
    spacing : mm between slices, rows and columns
    smoothing_mm : standard deviation; 0 leaves the values
    """
    result = np.where(brain, values, 0).astype(np.float32)
    for run in adjacent_runs(indices):
        if smoothing_mm > 0 and brain[run].any():
            result[run] = smooth_inside(result[run], brain[run], triple(reversed(spacing)), smoothing_mm)
    return result


def adjacent_runs(indices: Sequence[int]) -> list[slice]:
    """Return the positions of slices that follow each other without a gap; ``indices`` ascend."""
    breaks = [place for place in range(1, len(indices)) if indices[place] != indices[place - 1] + 1]
    return [slice(start, stop) for start, stop in zip([0, *breaks], [*breaks, len(indices)], strict=True) if start < stop]
