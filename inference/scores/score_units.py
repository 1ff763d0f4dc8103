"""From the errors of slices to scores in units, and how the units are found on healthy slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import SCORES
from mmccd_auto.inference.scores.healthy_error import (
    SIGNS,
    Divisor,
    HealthyError,
    Place,
    fit_healthy_error,
    place_of,
    weighted_quantile,
)
from mmccd_auto.inference.scores.signed_scores import combine, signed_scores, smoothings
from mmccd_auto.plans.plan import ScorePlan

UNIT_RATE = 0.01
LEAST_UNIT = 1e-6
"""A reconstruction without any error would make a unit of 0."""


@dataclass(frozen=True)
class ScoreUnits:
    """What turns errors into scores of which healthy tissue exceeds 1 in 1 % of its pixels.

    Attributes
    ----------
    score : how errors become scores
    healthy_error : by place
    units : by score, what maps are divided by; where the plan smooths twice, also of each sign "fine" and "coarse"
    """

    score: ScorePlan
    healthy_error: HealthyError
    units: dict[str, Divisor]


class HasUnits(Protocol):
    """What scores need to know: :class:`ScoreUnits`, or a whole calibration."""

    @property
    def score(self) -> ScorePlan:
        """How errors become scores."""

    @property
    def healthy_error(self) -> HealthyError:
        """The healthy error by place."""

    @property
    def units(self) -> dict[str, float]:
        """What maps are divided by, by score."""


def fit_units(cases: Sequence[CaseMaps], score: ScorePlan) -> ScoreUnits:
    """Fit the healthy error and the units of every score on healthy slices; every subject counts the same.

    Parameters
    ----------
    cases : at least one, with brain in their slices
    score : how errors become scores
    """
    healthy_error = _fit_error(cases)
    raw = [_raw_scores(case, healthy_error, score) for case in cases]
    units = {name: unit_of(cases, [one[name] for one in raw]) for name in raw[0]}
    if score.fine_smoothing_mm is not None:
        raw = [one | _signs(one, units, score) for one in raw]
        units |= {name: unit_of(cases, [one[name] for one in raw]) for name in SIGNS}
    units["combined"] = unit_of(cases, [_combined(one, units, score) for one in raw])
    return ScoreUnits(score, healthy_error, units)


def scores_in_units(case: CaseMaps, units: HasUnits) -> dict[str, np.ndarray]:
    """Make all SCORES of the slices of a case in units.

    Parameters
    ----------
    case : of the same reconstruction as those that the units were fitted on
    units : fitted

    Returns
    -------
    float32 [S, H, W] each; 0 outside the brain
    """
    raw = _raw_scores(case, units.healthy_error, units.score)
    raw |= _signs(raw, units.units, units.score)
    whole = {**raw, "combined": _combined(raw, units.units, units.score)}
    return {name: whole[name] / np.float32(units.units[name]) for name in SCORES}


def subject_weights(cases: Sequence[CaseMaps]) -> np.ndarray:
    """Weigh the brain's pixels of all cases, in their order, so that every subject counts the same; float64 [pixels]."""
    pixels: dict[str, int] = {}
    for case in cases:
        pixels[case.subject] = pixels.get(case.subject, 0) + int(case.healthy.sum())
    return np.concatenate([np.full(int(case.healthy.sum()), 1 / pixels[case.subject]) for case in cases])


def unit_of(cases: Sequence[CaseMaps], values: Sequence[np.ndarray]) -> float:
    """Compute the value that is exceeded in 1 % of a subject's pixels, all subjects weighing the same.

    Parameters
    ----------
    cases : healthy slices
    values : a score of each case, [S, H, W] each
    """
    scores = np.concatenate([one[case.healthy] for one, case in zip(values, cases, strict=True)])
    return max(weighted_quantile(scores, subject_weights(cases), 1 - UNIT_RATE), LEAST_UNIT)


def _fit_error(cases: Sequence[CaseMaps]) -> HealthyError:
    by_subject: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for case in cases:
        place = place_of(case.maps.cycle, case.brain, case.spacing[1])
        pixels = tuple(array[case.healthy] for array in (case.maps.signed, place.intensity, place.distance))
        by_subject.setdefault(case.subject, []).append(pixels)
    merged = [tuple(np.concatenate(part) for part in zip(*one, strict=True)) for one in by_subject.values()]
    return fit_healthy_error([one[0] for one in merged], [Place(*one[1:]) for one in merged])


def _raw_scores(case: CaseMaps, healthy_error: HealthyError, score: ScorePlan) -> dict[str, np.ndarray]:
    found = signed_scores(case.maps, case.brain, case.indices, case.spacing, healthy_error, score, case.healthy)
    return {**found, "squared": np.where(case.brain, case.maps.squared, np.float32(0))}


def needed_units(score: ScorePlan) -> list[str]:
    """Name the units without which scores can't be made."""
    return [*SCORES, *(f"{sign}{ending}" for sign in SIGNS for ending in smoothings(score) if ending)]


def _signs(raw: Mapping[str, np.ndarray], units: Mapping[str, float], score: ScorePlan) -> dict[str, np.ndarray]:
    """Return each sign's larger score of the two smoothings, in units of each; not yet in units of its own."""
    if score.fine_smoothing_mm is None:
        return {name: raw[name] for name in SIGNS}
    scales = {name: [f"{name}{ending}" for ending in smoothings(score)] for name in SIGNS}
    return {name: np.maximum(*(raw[one] / np.float32(units[one]) for one in names)) for name, names in scales.items()}


def _combined(raw: Mapping[str, np.ndarray], units: Mapping[str, float], score: ScorePlan) -> np.ndarray:
    """Combine both signs together, not yet in units of its own."""
    return combine({name: raw[name] / np.float32(units[name]) for name in SIGNS}, score)
