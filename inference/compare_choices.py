"""Settings and scores of a trained model side by side, judged on synthetic anomalies in healthy held-out slices."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmccd_auto.inference.calibration import fit_calibration
from mmccd_auto.inference.chosen import InferenceChoice
from mmccd_auto.inference.fold_models import FoldModel
from mmccd_auto.inference.settings import InferenceSettings, make_settings
from mmccd_auto.inference.synthetic_check import auprc_by_kind
from mmccd_auto.inference.synthetic_trial import SyntheticTrial, TrialMaps
from mmccd_auto.inference.validation_maps import HELD_OUT
from mmccd_auto.plans.plan import ScorePlan
from mmccd_auto.training.model_folder import ModelFolder

SMOOTHING_MM = (2.0, 3.0, 4.0, 6.0)
OTHER_WEIGHTS = (0.0, 0.5, 1.0)
TOLERANCE = 0.01
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tried:
    """A line of the table.

    Attributes
    ----------
    model : folder name
    fold, source : whose healthy slices, and what they are to it: "healthy validation slices" or "healthy training slices"
    sampling_steps, strip_stride, score : what was tried
    published : the squared error as published, instead of the calibrated score
    auprc : mean over the kinds of synthetic anomalies
    by_kind : of each kind
    evaluations_per_slice : network evaluations, mean over the healthy slices
    """

    model: str
    fold: str
    source: str
    sampling_steps: int
    strip_stride: int
    score: ScorePlan
    published: bool
    auprc: float
    by_kind: dict[str, float]
    evaluations_per_slice: float


def try_choices(model: ModelFolder, trial: SyntheticTrial) -> list[Tried]:
    """Try steps, strides and scores of a trained fold on its healthy held-out slices."""
    loaded = trial.load(model)
    found = []
    for settings in candidate_settings(model, loaded):
        logger.info("%s: %s", model.path.name, _in_words(settings))
        found += _scores_tried(model, trial, settings, trial.maps(model, loaded, settings))
    return found


def candidate_settings(model: ModelFolder, loaded: FoldModel) -> list[InferenceSettings]:
    """The planned steps and stride, and cheaper ones: one step, a few, strips side by side."""
    planned = make_settings(model.plan, model.configuration)
    if not loaded.cycle.masked:
        return [planned]
    steps = sorted({1, min(5, planned.sampling.steps), planned.sampling.steps})
    strides = sorted({planned.strip_stride, planned.strip_width}, reverse=True)
    return [
        make_settings(model.plan, model.configuration, sampling_steps=one, strip_stride=stride)
        for one in steps
        for stride in strides
    ]


def candidate_scores(planned: ScorePlan) -> Iterable[ScorePlan]:
    """The planned score with other smoothing, and other weights of the unexpected sign."""
    for smoothing in SMOOTHING_MM:
        for weight in OTHER_WEIGHTS:
            yield replace(planned, smoothing_mm=smoothing, other_weight=weight)


def best_of(tried: Sequence[Tried]) -> Tried:
    """The cheapest of those within 1 % of the best AUPRC; of equally cheap ones the best."""
    calibrated = [one for one in tried if not one.published]
    best = max(one.auprc for one in calibrated)
    near = [one for one in calibrated if one.auprc >= (1 - TOLERANCE) * best]
    return min(near, key=lambda one: (one.evaluations_per_slice, -one.auprc))


def best_single(best: Sequence[Tried]) -> Tried:
    """The model that finds most, of those that were compared on slices they hadn't seen, where there are any: a model knows
    its training slices, and finds what was put into them more easily."""
    held_out = [one for one in best if one.source == HELD_OUT]
    if held_out and len(held_out) < len(best):
        others = ", ".join(one.model for one in best if one.source != HELD_OUT)
        logger.warning("%s was tried on slices that it was trained on, and is not chosen.", others)
    if len({(one.fold, one.source) for one in held_out or best}) > 1:
        logger.warning("the models were tried on slices of different folds: their figures compare only roughly (-f FOLD).")
    return max(held_out or best, key=lambda one: one.auprc)


def choice_of(best: Tried, tried: Sequence[Tried]) -> InferenceChoice:
    """inference.json for the best of ``tried``."""
    published = max((one.auprc for one in tried if one.published), default=float("nan"))
    return InferenceChoice(
        best.sampling_steps,
        best.strip_stride,
        best.score,
        f"AUPRC {best.auprc:.3f} of synthetic anomalies in {best.source} (the published score: {published:.3f}), "
        f"{best.evaluations_per_slice:.0f} network evaluations a slice: the cheapest of {len(tried)} within "
        f"{100 * TOLERANCE:g} % of the best",
    )


def _scores_tried(model: ModelFolder, trial: SyntheticTrial, settings: InferenceSettings, maps: TrialMaps) -> list[Tried]:
    planned = model.plan.configuration(model.configuration).score

    def line(score: ScorePlan, published: bool) -> Tried:
        calibration = fit_calibration(maps.healthy, score, settings.to_json(), maps.source, {})
        by_kind = auprc_by_kind(maps.altered, calibration, "squared" if published else "combined")
        mean = float(np.mean(list(by_kind.values())))
        return Tried(
            model.path.resolve().name,
            trial.fold,
            maps.source,
            settings.sampling.steps,
            settings.strip_stride,
            score,
            published,
            mean,
            by_kind,
            maps.evaluations_per_slice,
        )

    return [line(planned, True), *(line(score, False) for score in candidate_scores(planned))]


def _in_words(settings: InferenceSettings) -> str:
    return f"{settings.sampling.steps} step(s), strip stride {settings.strip_stride} px"
