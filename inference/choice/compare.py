"""Settings and scores of a trained model side by side, judged on synthetic anomalies in healthy held-out slices."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from mmccd_auto.core.progress import Progress
from mmccd_auto.core.wording import counted
from mmccd_auto.inference.choice.elimination import Found, compare, joint_confidence, worth_its_price
from mmccd_auto.inference.choice.synthetic_check import auprc_of_each, mean_by_kind
from mmccd_auto.inference.choice.trial import SyntheticTrial, TrialMaps
from mmccd_auto.inference.maps.fold_model import FoldModel
from mmccd_auto.inference.maps.settings import InferenceSettings, make_settings
from mmccd_auto.inference.options import MapOptions
from mmccd_auto.inference.scores.calibration import HELD_OUT, fit_calibration
from mmccd_auto.plans.budget.rungs import trial_rungs
from mmccd_auto.plans.plan import ConfigurationPlan, ScorePlan
from mmccd_auto.trained.inference_choice import InferenceChoice, PlannedInference, TriedRung
from mmccd_auto.trained.model_folder import ModelFolder

SMOOTHING_MM = (2.0, 3.0, 4.0, 6.0)
OTHER_WEIGHTS = (0.0, 0.5, 1.0)
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
    people, drawings : of each anomaly, the number of the person in whose slices it lies, and of the seed
    seconds : that trying the steps and strips took, all scores together
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
    people: tuple[int, ...] = ()
    drawings: tuple[int, ...] = ()
    seconds: float = 0.0

    @property
    def rung(self) -> tuple[int, int, int]:
        """Steps, stride and strips at once."""
        return self.sampling_steps, self.strip_stride, self.strips_per_pass

    @property
    def found(self) -> Found:
        """What was found, to compare it with that of other lines.

        Where it isn't known whose slices they are, every anomaly counts as another person's.
        """
        count = len(self.by_anomaly)
        people, drawings = self.people or tuple(range(count)), self.drawings or (0,) * count
        return Found(self.by_anomaly, people, drawings, self.evaluations_per_slice)


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
            progress.show({"now": in_words(settings)})
            lines = []
            for draw in range(seeds):
                lines.append(try_scores(model, loaded, trial, settings, draw, scores))
                progress.update()
            found += [mean_over_seeds(several) for several in zip(*lines, strict=True)]
    return found


def try_scores(
    model: ModelFolder,
    loaded: FoldModel,
    trial: SyntheticTrial,
    settings: InferenceSettings,
    draw: int,
    scores: Sequence[ScorePlan],
) -> list[Tried]:
    """Try settings on one drawing of anomalies, with the seed of the noise that belongs to it.

    Returns
    -------
    a line for the published score, then one for each of ``scores``
    """
    started = time.monotonic()
    settings = seeded(settings, draw + 1)[draw]
    maps = trial.maps(model, loaded, settings, draw)
    lines = _scores_tried(model, trial, settings, maps, scores, draw)
    seconds = time.monotonic() - started
    return [replace(line, seconds=seconds) for line in lines]


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
    """Choose the cheapest steps and strips, each with the score that finds most, unless dearer ones find more.

    More is beyond the interval of the paired difference, all comparisons together; see
    :mod:`mmccd_auto.inference.choice.elimination`.
    """
    best: dict[tuple[int, int, int], Tried] = {}
    for one in (one for one in tried if not one.published):
        if one.rung not in best or one.auprc > best[one.rung].auprc:
            best[one.rung] = one
    lines = list(best.values())
    return lines[worth_its_price({place: one.found for place, one in enumerate(lines)}, joint_confidence(len(lines)))]


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


def choice_of(
    best: Tried,
    tried: Sequence[Tried],
    planned: PlannedInference,
    weights_sha256: str = "",
    given_up: Mapping[tuple[int, int, int], str] = MappingProxyType({}),
) -> InferenceChoice:
    """Write inference.json for the best of ``tried``.

    Parameters
    ----------
    best, tried : lines of one model
    planned : what its plan says
    weights_sha256 : see :class:`InferenceChoice`
    given_up : by steps, stride and strips at once, why they weren't tried to the end
    """
    published = max((one.auprc for one in tried if one.published), default=float("nan"))
    return InferenceChoice(
        best.sampling_steps,
        best.strip_stride,
        best.score,
        f"AUPRC {best.auprc:.3f} of synthetic anomalies in {best.source} (the published score: {published:.3f}), "
        f"{best.evaluations_per_slice:.0f} network evaluations a slice: the cheapest of {len({one.rung for one in tried})} "
        "steps and strips, unless a dearer one finds more beyond the interval of the difference",
        best.strips_per_pass,
        rungs_of(tried, best, given_up),
        planned,
        best.fold,
        best.source,
        weights_sha256,
    )


def rungs_of(
    tried: Sequence[Tried], chosen: Tried, given_up: Mapping[tuple[int, int, int], str] = MappingProxyType({})
) -> tuple[TriedRung, ...]:
    """Return the steps and strips that were tried, each with the score that found most; the cheapest first.

    Parameters
    ----------
    tried : lines of one model
    chosen : of them; the others are compared with it
    given_up : see :func:`choice_of`
    """
    best: dict[tuple[int, int, int], Tried] = {}
    for one in (one for one in tried if not one.published):
        if one.rung not in best or one.auprc > best[one.rung].auprc:
            best[one.rung] = one
    best[chosen.rung] = chosen
    confidence = joint_confidence(len(best) + sum(rung not in best for rung in given_up))
    lines = []
    for rung, one in best.items():
        mean, interval = None, None
        if one is not chosen:
            difference = compare(one.found, chosen.found, confidence)
            if math.isfinite(difference.low):
                mean, interval = difference.mean, (difference.low, difference.high)
        evaluations, reason = one.evaluations_per_slice, given_up.get(rung, "")
        lines.append(TriedRung(*rung, one.auprc, one.by_seed, evaluations, mean, interval, reason))
    return tuple(sorted(lines, key=lambda line: line.evaluations_per_slice))


def _scores_tried(
    model: ModelFolder,
    trial: SyntheticTrial,
    settings: InferenceSettings,
    maps: TrialMaps,
    scores: Sequence[ScorePlan],
    draw: int,
) -> list[Tried]:
    """Return one seed's lines: the published score, and those to try."""
    numbers = {subject: number for number, subject in enumerate(sorted({one.subject for one in maps.healthy}))}
    people = tuple(numbers[one.case.subject] for one in maps.altered)
    planned = model.plan.configuration(model.configuration).score

    def line(score: ScorePlan, published: bool) -> Tried:
        calibration = fit_calibration(maps.healthy, score, settings.to_json(), maps.source, {})
        name = "squared" if published else "combined"
        each = auprc_of_each(maps.altered, [calibration.scores(one.case)[name] for one in maps.altered])
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
            people,
            (draw,) * len(each),
        )

    return [line(planned, True), *(line(score, False) for score in scores)]


def mean_over_seeds(lines: Sequence[Tried]) -> Tried:
    """Return one line of the lines of several seeds."""
    by_seed = tuple(line.auprc for line in lines)
    by_kind = {kind: float(np.mean([line.by_kind[kind] for line in lines])) for kind in lines[0].by_kind}
    return replace(
        lines[0],
        auprc=float(np.mean(by_seed)),
        by_kind=by_kind,
        by_seed=by_seed,
        by_anomaly=tuple(value for line in lines for value in line.by_anomaly),
        people=tuple(number for line in lines for number in line.people),
        drawings=tuple(number for line in lines for number in line.drawings),
        seconds=sum(line.seconds for line in lines),
    )


def in_words(settings: InferenceSettings) -> str:
    """Say which steps and strips they are."""
    together = f", {settings.strips_per_pass} at once" if settings.strips_per_pass != 1 else ""
    return f"{counted(settings.sampling.steps, 'step')}, strip stride {settings.strip_stride} px{together}"
