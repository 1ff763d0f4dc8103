"""The control without a network: one constant in place of the reconstruction, then the very steps that make the score.

What a map finds that its control doesn't find is what the networks have added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Interval

from mmccd_auto.inference.maps.engine import SliceMaps
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.scores.healthy_error import Divisor, HealthyError, weighted_quantile
from mmccd_auto.inference.scores.score_units import (
    HasUnits,
    ScoreUnits,
    fit_units,
    scores_in_units,
    subject_weights,
    unit_of,
)
from mmccd_auto.plans.plan import ScorePlan

JOINED = "joined"
"""Unit of the network's and the control's scores together."""


@dataclass(frozen=True)
class Control:
    """How a constant's errors become scores, fitted on the healthy slices that the model is calibrated on.

    Attributes
    ----------
    constant : in place of the reconstruction, on the scale of normalised scans: the median of the healthy brains
    healthy_error, units : as in :class:`mmccd_auto.inference.scores.calibration.Calibration`, of the constant's errors
    """

    constant: Annotated[float, Interval(ge=-1000, le=1000)]
    healthy_error: HealthyError
    units: dict[str, Divisor]


def fit_control(cases: Sequence[CaseMaps], score: ScorePlan) -> Control:
    """Fit the control on healthy slices; every subject counts the same.

    Parameters
    ----------
    cases : the maps that a model is calibrated on
    score : how errors become scores, as for the model
    """
    brains = np.concatenate([scan_of(case)[case.healthy] for case in cases])
    constant = weighted_quantile(brains, subject_weights(cases), 0.5)
    fitted = fit_units([control_maps(case, constant) for case in cases], score)
    return Control(constant, fitted.healthy_error, fitted.units)


def control_scores(case: CaseMaps, control: Control, score: ScorePlan) -> dict[str, np.ndarray]:
    """Make the control's scores of the slices of a case.

    Parameters
    ----------
    case : with a model's maps, which hold the scan
    control : of :func:`fit_control`
    score : that it was fitted for

    Returns
    -------
    all SCORES in units, float32 [S, H, W] each; 0 outside the brain
    """
    units = ScoreUnits(score, control.healthy_error, control.units)
    return scores_in_units(control_maps(case, control.constant), units)


def fit_joined_units(cases: Sequence[CaseMaps], units: ScoreUnits) -> tuple[ScoreUnits, Control | None]:
    """Fit what :func:`joined_scores` needs beside the units of the network's scores.

    Parameters
    ----------
    cases : the healthy slices on which the units were fitted
    units : of the network's scores

    Returns
    -------
    the units, with that of the joined score, and the control; the same units and None where the plan gives it no weight
    """
    if units.score.control_weight == 0:
        return units, None
    control = fit_control(cases, units.score)
    joined = [_joined(case, scores_in_units(case, units), units.score, control) for case in cases]
    return replace(units, units=units.units | {JOINED: unit_of(cases, joined)}), control


def joined_scores(case: CaseMaps, units: HasUnits, control: Control | None) -> dict[str, np.ndarray]:
    """Make all SCORES in units, the combined one with the control, as much as the plan's ``control_weight`` w says.

    combined = network^(1 - w) control^w, in a unit of its own: what both see counts most, what one of them doesn't see
    counts little. The halves and the published score are the network's alone.

    Parameters
    ----------
    case : of the same reconstruction as those that the units were fitted on
    units, control : of :func:`fit_joined_units`

    Returns
    -------
    float32 [S, H, W] each; 0 outside the brain
    """
    scores = scores_in_units(case, units)
    if units.score.control_weight == 0:
        return scores
    if control is None:
        raise ValueError("a score that is joined with the control needs one")
    return scores | {"combined": _joined(case, scores, units.score, control) / np.float32(units.units[JOINED])}


def _joined(case: CaseMaps, scores: dict[str, np.ndarray], score: ScorePlan, control: Control) -> np.ndarray:
    """Compute the geometric mean of both combined scores, not yet in units of its own."""
    weight = np.float32(score.control_weight)
    return scores["combined"] ** (1 - weight) * control_scores(case, control, score)["combined"] ** weight


def control_maps(case: CaseMaps, constant: float) -> CaseMaps:
    """Put a constant in place of the reconstruction, in the maps of the same slices.

    Parameters
    ----------
    case : with a model's maps
    constant : on the scale of normalised scans
    """
    value = np.float32(constant)
    signed = np.where(_seen(case), scan_of(case) - value, np.float32(0))
    cycle = np.where(case.brain, value, np.float32(0))
    return replace(case, maps=SliceMaps(signed**2, signed, cycle, case.maps.coverage, 0))


def scan_of(case: CaseMaps) -> np.ndarray:
    """Compute the normalised scan that maps were made of, after the second fit where there was one.

    As float32 [S, H, W], 0 where nothing was reconstructed.
    """
    return case.maps.signed + case.maps.cycle


def reconstruction_r2(cases: Sequence[CaseMaps]) -> float | None:
    """Measure which share of the variance inside one subject's healthy brain the reconstruction explains.

    R2 = 1 - sum (x - x^)^2 / sum (x - mean x)^2 over the brain's pixels that were reconstructed: 1 is perfect, and the best
    constant has 0.

    Parameters
    ----------
    cases : of one subject

    Returns
    -------
    at most 1; None where the scan has no variance
    """
    error = np.concatenate([case.maps.signed[_seen(case) & case.healthy] for case in cases]).astype(np.float64)
    scan = np.concatenate([scan_of(case)[_seen(case) & case.healthy] for case in cases]).astype(np.float64)
    total = float(np.sum((scan - scan.mean()) ** 2)) if len(scan) else 0.0
    return 1 - float(np.sum(error**2)) / total if total > 0 else None


def r2_by_subject(cases: Sequence[CaseMaps]) -> dict[str, float | None]:
    """Measure :func:`reconstruction_r2` for each subject of ``cases``."""
    people: dict[str, list[CaseMaps]] = {}
    for case in cases:
        people.setdefault(case.subject, []).append(case)
    return {subject: reconstruction_r2(of_subject) for subject, of_subject in people.items()}


def mean_r2(values: Sequence[float | None]) -> float | None:
    """Compute the mean over the subjects that have an R2; None where none has."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _seen(case: CaseMaps) -> np.ndarray:
    """Find where there is a reconstruction."""
    return case.brain & (case.maps.coverage > 0)
