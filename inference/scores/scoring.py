"""Which score is written, in which units, and where the mask's threshold comes from."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.wording import counted
from mmccd_auto.inference.maps.fold_model import FoldModel
from mmccd_auto.inference.maps.settings import InferenceSettings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import DEFAULT_RATE, DEFAULT_SCORE, ScoreOptions
from mmccd_auto.inference.scores.calibration import (
    LARGEST_LEAST_LESION_OF_FEW,
    Calibration,
    calibration_of,
    too_few,
)
from mmccd_auto.inference.scores.control import control_scores
from mmccd_auto.inference.scores.edge_profile import EdgeFinding, find_rim
from mmccd_auto.inference.scores.further import best_fitting
from mmccd_auto.inference.scores.second_fit import NOT_CALIBRATED_FOR, ONE_FIT, UNCALIBRATED
from mmccd_auto.plans.plan import ScorePlan
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import ModelFolder

UNCALIBRATED_SCORE = "squared"
LEAST_PIXELS_ABOVE = 20
BY_USER = "given by the user"
AT_MOST = f"at most {LARGEST_LEAST_LESION_OF_FEW:g} mm3"
AGE_BEYOND = 5.0
"""Years beyond those of the healthy people, from which on a warning is due."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scoring:
    """How the errors of a model's folds become the score and the mask that are written.

    Attributes
    ----------
    score : one of SCORES
    calibrations : by fold; empty where the score is the uncalibrated squared error
    false_positive_rate : share of healthy tissue that the threshold lets through; None where it was not chosen by one
    threshold : a voxel is marked where its score is above it; None makes no mask
    least_lesion_mm3 : smaller components are candidates instead of lesions
    source : where the threshold comes from, or why there is none
    least_source : where the least lesion volume comes from
    further : by the name of a subset of further modalities, how it is where a scan has these; empty for models of the input
        modality alone
    """

    score: str
    calibrations: Mapping[str, Calibration]
    false_positive_rate: float | None
    threshold: float | None
    least_lesion_mm3: float
    source: str
    least_source: str
    further: Mapping[str, Scoring] = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """Whether 1.0 is the score that healthy tissue exceeds in 1 % of its pixels."""
        return bool(self.calibrations)

    def fitting(self, given: Collection[str]) -> Scoring:
        """How a scan is scored that was seen with these further modalities: by the largest subset that is calibrated."""
        subset = best_fitting(self.further, given)
        return self.further[subset] if subset else self

    def scores(self, fold: str, case: CaseMaps) -> dict[str, np.ndarray]:
        """Return the scores of one fold's maps, float32 [S, H, W] each: all SCORES in units, or "squared" as it is."""
        if not self.calibrated:
            return {UNCALIBRATED_SCORE: case.maps.squared}
        return self.calibrations[fold].scores(case)

    def edge(
        self, scores: Mapping[str, np.ndarray], brain: np.ndarray, spacing: tuple[float, float, float]
    ) -> EdgeFinding | None:
        """Compare the brain's edge with that of healthy people; None where a calibration doesn't know it.

        Parameters
        ----------
        scores : of :meth:`scores`, mean of the folds, [S, H, W] each
        brain : bool [S, H, W], not empty
        spacing : mm between slices, rows and columns
        """
        known = [one.edge for one in self.calibrations.values() if one.edge is not None]
        if not known or len(known) < len(self.calibrations):
            return None
        return find_rim(scores[DEFAULT_SCORE], brain, spacing, known)

    @property
    def has_control(self) -> bool:
        """Whether the control without a network can be made: that takes calibrations that were fitted with one."""
        return self.calibrated and all(one.control is not None for one in self.calibrations.values())

    def control(self, fold: str, case: CaseMaps) -> np.ndarray:
        """Compute the same score without a network, by the calibration of one fold, float32 [S, H, W].

        Where :attr:`has_control`.
        """
        calibration = self.calibrations[fold]
        if calibration.control is None:
            raise ValueError(f"the calibration of fold {fold} was fitted without a control")
        return control_scores(case, calibration.control, calibration.score)[self.score]

    def healthy_percentile(self, case_score: float, age: float | None = None) -> float | None:
        """Compute the share of healthy people, in percent, that score less.

        They are people of this age, where :meth:`percentile_of` says so; None where :meth:`percentile_note` says why.
        """
        if self.percentile_note:
            return None
        if not self.percentile_of(age):
            age = None
        return float(np.mean([one.healthy_percentile(case_score, age) for one in self.calibrations.values()]))

    def percentile_of(self, age: float | None) -> str:
        """Name the people of about this age among whom the percentile is; empty where it is among all."""
        groups = [one.of_age(age) for one in self.calibrations.values()]
        if not groups or not all(groups):
            return ""
        smallest = min(groups, key=len)
        ages = [one.age for one in smallest if one.age is not None]
        return f"{counted(len(smallest), 'healthy person', 'healthy people')} of {_span(min(ages), max(ages))} years"

    def age_warning(self, age: float | None) -> str:
        """Say where a person is older or younger than all healthy people; empty where an age isn't known."""
        people = [subject for one in self.calibrations.values() for subject in one.subjects]
        ages = [subject.age for subject in people if subject.age is not None]
        if age is None or not people or len(ages) < len(people):
            return ""
        if min(ages) - AGE_BEYOND <= age <= max(ages) + AGE_BEYOND:
            return ""
        return (
            f"the person is {age:.3g} years old, the healthy people by whom scores are calibrated are "
            f"{_span(min(ages), max(ages))}: what is usual at this age may be marked"
        )

    @property
    def healthy_people(self) -> int | None:
        """On how many people the scores are calibrated (of several calibrations the smallest number); None without one."""
        return min((len(one.subjects) for one in self.calibrations.values()), default=None)

    @property
    def percentile_note(self) -> str:
        """Why a case gets no percentile of healthy people; empty where it does."""
        people = self.healthy_people
        if not self.calibrated or people is None:
            return "not calibrated"
        if self.score != DEFAULT_SCORE:
            return f"known for the score {DEFAULT_SCORE} only"
        if any(one.few_people for one in self.calibrations.values()):
            return f"{too_few(people)} to say"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return what CASE.json says of it."""
        return {
            "score": self.score,
            "score_unit": "1 % of healthy tissue exceeds 1" if self.calibrated else "squared normalised intensity",
            "false_positive_rate": self.false_positive_rate,
            "threshold": self.threshold,
            "least_lesion_mm3": round(self.least_lesion_mm3, 3),
            "least_lesion_source": self.least_source,
            "threshold_source": self.source,
            "healthy_people": self.healthy_people,
            "healthy_percentile_note": self.percentile_note,
        }


def choose_fits(
    settings: InferenceSettings, asked: int | None, calibrations: Mapping[str, Calibration | None], model: str
) -> tuple[InferenceSettings, str]:
    """Choose how often scans are fitted: as often as for the calibration, unless the user says that once is enough.

    Parameters
    ----------
    settings : of the preset
    asked : by the user; None: nothing
    calibrations : of each fold; None where it has none
    model : named in messages

    Returns
    -------
    the settings, and why there is one fit (empty for two)

    Raises
    ------
    MMCCDError
        If two are asked for and a calibration knows one only.
    """
    if settings.fits == 1:
        return settings, ONE_FIT
    if all(one is not None and one.fits > 1 for one in calibrations.values()):
        return settings, ""
    note = UNCALIBRATED if any(one is None for one in calibrations.values()) else NOT_CALIBRATED_FOR
    if asked is not None:
        raise MMCCDError(f"{model}: a second fit needs a calibration that was made with it ({note}): run mmccd_calibrate.")
    if note == NOT_CALIBRATED_FOR:
        logger.info("%s was calibrated with one fit of the intensities, so scans get one: mmccd_calibrate adds it.", model)
    return replace(settings, fits=1), note


def choose_scoring(
    model: ModelFolder,
    folds: Sequence[FoldModel],
    settings: InferenceSettings,
    options: ScoreOptions,
    calibrations: Mapping[str, Calibration] | None = None,
) -> Scoring:
    """Choose what a user asks for, and else: the combined score at a false-positive rate of 0.005, as calibrated.

    Parameters
    ----------
    model, folds : loaded
    settings : by which maps will be made
    options : the user's wishes
    calibrations : by fold, instead of the folds' own calibration.json

    Raises
    ------
    MMCCDError
        If a wish needs a calibration that isn't there.
    """
    if calibrations is None:
        found = {one.fold: calibration_of(model, one) for one in folds}
        calibrations = {fold: calibration for fold, calibration in found.items() if calibration is not None}
    missing = sorted({one.fold for one in folds} - set(calibrations))
    if missing:
        return _uncalibrated(model, missing, options)
    score = options.score or DEFAULT_SCORE
    source = _source(calibrations, settings, chosen_plan(model).configuration(model.configuration).score)
    if options.threshold is not None:
        least = options.least_lesion_mm3 or 0.0
        return _for_subsets(Scoring(score, calibrations, None, options.threshold, least, BY_USER, _given(options)), options)
    rate = DEFAULT_RATE if options.false_positive_rate is None else options.false_positive_rate
    if min(one.pixels_above(rate) for one in calibrations.values()) < LEAST_PIXELS_ABOVE:
        logger.warning("too little healthy tissue was scored for a false-positive rate of %g to be certain.", rate)
    least, least_source = _least_lesion(calibrations, rate, score, options)
    limit = float(np.mean([one.threshold(rate, score) for one in calibrations.values()]))
    return _for_subsets(Scoring(score, calibrations, rate, limit, least, source, least_source), options)


def _for_subsets(alone: Scoring, options: ScoreOptions) -> Scoring:
    """Add what each subset of further modalities changes, as far as all folds are calibrated for it."""
    folds = alone.calibrations
    names = [name for name in next(iter(folds.values())).further if all(name in one.further for one in folds.values())]
    further = {name: _of_subset(alone, name, options) for name in names}
    few = [name for name, one in {"the input alone": alone, **further}.items() if one.least_source.startswith(AT_MOST)]
    if few:
        seen = f" with {', '.join(few)}" if further else ""
        logger.warning(
            "the least lesion volume%s is %s: too few healthy people may set it; what is smaller is kept as a candidate.",
            seen,
            AT_MOST,
        )
    return replace(alone, further=further)


def _of_subset(alone: Scoring, name: str, options: ScoreOptions) -> Scoring:
    """Return the same wishes by the units of a subset of further modalities."""
    calibrations = {fold: one.further[name] for fold, one in alone.calibrations.items()}
    rate = alone.false_positive_rate
    if rate is None:
        return replace(alone, calibrations=calibrations)
    least, least_source = _least_lesion(calibrations, rate, alone.score, options)
    limit = float(np.mean([one.threshold(rate, alone.score) for one in calibrations.values()]))
    people = counted(_people(calibrations), "subject")
    if _people(calibrations) < _people(alone.calibrations):
        logger.info("scans that are seen with %s are scored by %s who have it.", name, people)
    return replace(
        alone,
        calibrations=calibrations,
        threshold=limit,
        least_lesion_mm3=least,
        source=f"{alone.source}; with {name}, of {people}",
        least_source=least_source,
    )


def _least_lesion(
    calibrations: Mapping[str, Calibration], rate: float, score: str, options: ScoreOptions
) -> tuple[float, str]:
    """Compute the least lesion volume in mm3, and where it comes from."""
    if options.least_lesion_mm3 is not None:
        return options.least_lesion_mm3, BY_USER
    if score != DEFAULT_SCORE:
        # Components were measured on the masks of the combined score only.
        return 0.0, f"none, since it is known for the score {DEFAULT_SCORE} only"
    volumes = [one.least_lesion_mm3(rate) for one in calibrations.values()]
    usual = [one.usual_false_component_mm3(rate) for one in calibrations.values()]
    least, source = float(np.mean(volumes)), "as large as healthy people's largest false components"
    if volumes != usual:
        people = min(len(one.subjects) for one in calibrations.values())
        source = f"{AT_MOST}, since there are {too_few(people)} for more"
    return least, source


def _given(options: ScoreOptions) -> str:
    return "none" if options.least_lesion_mm3 is None else BY_USER


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _uncalibrated(model: ModelFolder, missing: Sequence[str], options: ScoreOptions) -> Scoring:
    """Return the published map as it is.

    Scores in different units can't be averaged, so all folds must be calibrated or none.
    """
    reason = f"no calibration of fold {', '.join(missing)}"
    if options.score not in (None, UNCALIBRATED_SCORE) or options.false_positive_rate is not None:
        wish = "a false-positive rate" if options.false_positive_rate is not None else f"the score {options.score}"
        raise MMCCDError(f"{model.path}: {wish} needs a calibration, and there is {reason}: run mmccd_calibrate.")
    without = ", without masks" if options.threshold is None else ""
    logger.warning("%s: %s, so maps hold the squared error%s; mmccd_calibrate corrects that.", model.path, reason, without)
    source = reason if options.threshold is None else BY_USER
    return Scoring(UNCALIBRATED_SCORE, {}, None, options.threshold, options.least_lesion_mm3 or 0.0, source, _given(options))


def _people(calibrations: Mapping[str, Calibration]) -> int:
    """Count the people of all calibrations together, each once."""
    return len({subject.subject for one in calibrations.values() for subject in one.subjects})


def _source(calibrations: Mapping[str, Calibration], settings: InferenceSettings, planned: ScorePlan) -> str:
    sources = sorted({one.source for one in calibrations.values()})
    source = f"calibrated on {' and '.join(sources)} of {counted(_people(calibrations), 'subject')}"
    differences = list(dict.fromkeys(text for one in calibrations.values() for text in one.differences(settings, planned)))
    if differences:
        source += f", with other settings ({'; '.join(differences)})"
        logger.warning("the score was %s: it may not fit these maps; mmccd_calibrate corrects that.", source)
    return source
