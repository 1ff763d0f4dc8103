"""Settings and scores of a trained model side by side, judged on synthetic anomalies in healthy held-out slices."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmccd_auto.core.progress import Progress
from mmccd_auto.core.wording import counted
from mmccd_auto.inference.choice.synthetic_check import auprc_of_each, mean_by_kind
from mmccd_auto.inference.choice.trial import SyntheticTrial, TrialMaps
from mmccd_auto.inference.maps.fold_model import FoldModel
from mmccd_auto.inference.maps.settings import InferenceSettings, make_settings
from mmccd_auto.inference.options import MapOptions
from mmccd_auto.inference.scores.calibration import HELD_OUT, fit_calibration
from mmccd_auto.inference.scores.score_units import scores_in_units
from mmccd_auto.plans.budget.rungs import trial_rungs
from mmccd_auto.plans.plan import ConfigurationPlan, ScorePlan
from mmccd_auto.trained.inference_choice import InferenceChoice, PlannedInference, TriedRung
from mmccd_auto.trained.model_folder import ModelFolder

SMOOTHING_MM = (2.0, 3.0, 4.0, 6.0)
OTHER_WEIGHTS = (0.0, 0.5, 1.0)
TOLERANCE = 0.01
SEEDS = 3
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tried:
    """A line of the table.

    Attributes
    ----------
    model : folder name
    fold, source : whose healthy slices, and what they are to it: "healthy validation slices" or "healthy training slices"
    cases : whose slices they are
    sampling_steps, strip_stride, strips_per_pass, score : what was tried
    published : the squared error as published, instead of the calibrated score
    auprc : mean over the kinds of synthetic anomalies, and over the seeds
    by_kind : of each kind
    by_seed : the mean over the kinds for each seed, of the noise and of the anomalies; the same seeds for every line
    evaluations_per_slice : network evaluations, mean over the healthy slices
    by_anomaly : AUPRC of each anomaly, of all seeds; the same anomalies in the same order for every line
    """

    model: str
    fold: str
    source: str
    cases: tuple[str, ...]
    sampling_steps: int
    strip_stride: int
    strips_per_pass: int
    score: ScorePlan
    published: bool
    auprc: float
    by_kind: dict[str, float]
    by_seed: tuple[float, ...]
    evaluations_per_slice: float
    by_anomaly: tuple[float, ...] = ()


def try_choices(
    model: ModelFolder,
    trial: SyntheticTrial,
    scores: Iterable[ScorePlan] | None = None,
    seeds: int = SEEDS,
    before: ConfigurationPlan | None = None,
) -> list[Tried]:
    """Try steps, strips and scores of a trained fold on its healthy held-out slices.

    Parameters
    ----------
    model : trained
    trial : fold and slices
    scores : to try; None takes :func:`candidate_scores`
    seeds : of the noise and of the anomalies. Maps of two seeds can differ more than those of two step counts do, and how
        much is found of a few anomalies depends on which they are
    before : what was chosen before, which is tried, too
    """
    loaded = trial.load(model)
    planned = model.plan.configuration(model.configuration).score
    scores = list(candidate_scores(planned) if scores is None else scores)
    if before is not None and before.score not in scores:
        scores.append(before.score)
    found = []
    candidates = candidate_settings(model, loaded, before)
    with Progress(len(candidates) * seeds, f"{model.path.name}: steps and strips", "try") as progress:
        for settings in candidates:
            progress.show({"now": _in_words(settings)})
            lines = []
            for draw, one in enumerate(seeded(settings, seeds)):
                lines.append(_scores_tried(model, trial, one, trial.maps(model, loaded, one, draw), scores))
                progress.update()
            found += [_mean_over_seeds(several) for several in zip(*lines, strict=True)]
    return found


def seeded(settings: InferenceSettings, seeds: int) -> list[InferenceSettings]:
    """Return the same settings with ``seeds`` seeds of the noise, their own the first."""
    return [replace(settings, seed=settings.seed + number) for number in range(seeds)]


def candidate_settings(
    model: ModelFolder, loaded: FoldModel, before: ConfigurationPlan | None = None
) -> list[InferenceSettings]:
    """Return the settings to try.

    The planned steps; a few steps; and one step, strips side by side or half overlapping, one, two or four of them at once;
    and what was chosen ``before``.

    No strips overlap by more than half, also where the plan has them closer: they average more of the same, and would make
    this take longer than a short training.
    """
    planned = make_settings(model.plan, model.configuration)
    if not loaded.cycle.masked:
        return [planned]
    chosen = set() if before is None else {(before.sampling_steps, before.strip_stride, before.strips_per_pass)}
    width, stride = planned.strip_width, planned.strip_stride
    rungs = chosen | trial_rungs(width, stride, planned.sampling.steps, planned.strips_per_pass)
    return [
        make_settings(
            model.plan,
            model.configuration,
            options=MapOptions(sampling_steps=steps, strip_stride=stride, strips_per_pass=together),
        )
        for steps, stride, together in sorted(rungs, key=lambda rung: ((rung[0] + 1) / rung[1] / max(rung[2], 1), rung))
    ]


def candidate_scores(planned: ScorePlan) -> Iterable[ScorePlan]:
    """Choose the planned score with other smoothing, and other weights of the unexpected sign."""
    for smoothing in SMOOTHING_MM:
        for weight in OTHER_WEIGHTS:
            yield replace(planned, smoothing_mm=smoothing, other_weight=weight)


def best_of(tried: Sequence[Tried]) -> Tried:
    """Choose the cheapest of those within 1 % of the best AUPRC; of equally cheap ones the best."""
    calibrated = [one for one in tried if not one.published]
    top = max(one.auprc for one in calibrated)
    near = [one for one in calibrated if one.auprc >= (1 - TOLERANCE) * top]
    return min(near, key=lambda one: (one.evaluations_per_slice, -one.auprc))


def best_single(best: Sequence[Tried]) -> Tried:
    """Choose the model that finds most, of those that were compared on slices they hadn't seen, where there are any.

    A model knows its training slices, and finds what was put into them more easily.
    """
    held_out = [one for one in best if one.source == HELD_OUT]
    if held_out and len(held_out) < len(best):
        others = ", ".join(one.model for one in best if one.source != HELD_OUT)
        logger.warning("%s was tried on slices that it was trained on, and is not chosen.", others)
    if len({(one.fold, one.cases) for one in held_out or best}) > 1:
        logger.warning("the models were tried on slices of different cases: their figures compare only roughly (-f FOLD).")
    return max(held_out or best, key=lambda one: one.auprc)


def choice_of(best: Tried, tried: Sequence[Tried], planned: PlannedInference, weights_sha256: str = "") -> InferenceChoice:
    """Write inference.json for the best of ``tried``.

    Parameters
    ----------
    best, tried : lines of one model
    planned : what its plan says
    weights_sha256 : see :class:`InferenceChoice`
    """
    published = max((one.auprc for one in tried if one.published), default=float("nan"))
    return InferenceChoice(
        best.sampling_steps,
        best.strip_stride,
        best.score,
        f"AUPRC {best.auprc:.3f} of synthetic anomalies in {best.source} (the published score: {published:.3f}), "
        f"{best.evaluations_per_slice:.0f} network evaluations a slice: the cheapest of "
        f"{sum(not one.published for one in tried)} within {100 * TOLERANCE:g} % of the best",
        best.strips_per_pass,
        rungs_of(tried),
        planned,
        best.fold,
        best.source,
        weights_sha256,
    )


def rungs_of(tried: Sequence[Tried]) -> tuple[TriedRung, ...]:
    """Return the steps and strips that were tried, each with the score that found most; the cheapest first."""
    best: dict[tuple[int, int, int], Tried] = {}
    for one in (one for one in tried if not one.published):
        rung = (one.sampling_steps, one.strip_stride, one.strips_per_pass)
        if rung not in best or one.auprc > best[rung].auprc:
            best[rung] = one
    lines = [TriedRung(*rung, one.auprc, one.by_seed, one.evaluations_per_slice) for rung, one in best.items()]
    return tuple(sorted(lines, key=lambda line: line.evaluations_per_slice))


def _scores_tried(
    model: ModelFolder, trial: SyntheticTrial, settings: InferenceSettings, maps: TrialMaps, scores: Sequence[ScorePlan]
) -> list[Tried]:
    """Return one seed's lines: the published score, and those to try."""
    planned = model.plan.configuration(model.configuration).score

    def line(score: ScorePlan, published: bool) -> Tried:
        calibration = fit_calibration(maps.healthy, score, settings.to_json(), maps.source, {})
        name = "squared" if published else "combined"
        each = auprc_of_each(maps.altered, [scores_in_units(one.case, calibration)[name] for one in maps.altered])
        by_kind = mean_by_kind(maps.altered, each)
        mean = float(np.mean(list(by_kind.values())))
        return Tried(
            model.path.resolve().name,
            trial.fold,
            maps.source,
            tuple(case.case for case in maps.healthy),
            settings.sampling.steps,
            settings.strip_stride,
            settings.strips_per_pass,
            score,
            published,
            mean,
            by_kind,
            (mean,),
            maps.evaluations_per_slice,
            tuple(each),
        )

    return [line(planned, True), *(line(score, False) for score in scores)]


def _mean_over_seeds(lines: Sequence[Tried]) -> Tried:
    """Return one line of the lines of several seeds."""
    by_seed = tuple(line.auprc for line in lines)
    by_kind = {kind: float(np.mean([line.by_kind[kind] for line in lines])) for kind in lines[0].by_kind}
    each = tuple(value for line in lines for value in line.by_anomaly)
    return replace(lines[0], auprc=float(np.mean(by_seed)), by_kind=by_kind, by_seed=by_seed, by_anomaly=each)


def _in_words(settings: InferenceSettings) -> str:
    together = f", {settings.strips_per_pass} at once" if settings.strips_per_pass != 1 else ""
    return f"{counted(settings.sampling.steps, 'step')}, strip stride {settings.strip_stride} px{together}"
