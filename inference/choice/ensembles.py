"""Ensembles of trained models side by side, judged on synthetic anomalies in healthy held-out slices."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mmccd_auto.inference.choice.compare import SEEDS, Tried, seeded
from mmccd_auto.inference.choice.synthetic_check import AlteredMaps, auprc_of_each, mean_by_kind
from mmccd_auto.inference.choice.trial import SyntheticTrial
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.inference.scores.calibration import fit_calibration
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import ModelFolder

TOLERANCE = 0.01
"""Of the AUPRC: an ensemble costs as much as its models together, and is left to the interval only beyond this."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TriedEnsemble:
    """A line of the table.

    Attributes
    ----------
    models : folder names
    auprc : mean over the kinds of synthetic anomalies, and over the seeds of the noise
    by_kind : of each kind
    evaluations_per_slice : network evaluations of all models together, mean over the healthy slices
    by_anomaly : AUPRC of each anomaly, of all seeds, in the order of the models' own
    """

    models: tuple[str, ...]
    auprc: float
    by_kind: dict[str, float]
    evaluations_per_slice: float
    by_anomaly: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Member:
    altered: list[AlteredMaps]
    scores: list[np.ndarray]


def try_ensembles(models: Sequence[ModelFolder], best: Mapping[str, Tried], trial: SyntheticTrial) -> list[TriedEnsemble]:
    """Try every pair of models, and all together, each with what was chosen for it.

    Parameters
    ----------
    models : of one input modality and one preprocessing, with their choice in inference.json
    best : by folder name, what was chosen
    trial : of a fold that all of them were trained on
    """
    if len(models) < 2:
        return []
    members = {model.path.resolve().name: _member(model, trial) for model in models}
    names = list(members)
    chosen = [*combinations(names, 2), *([tuple(names)] if len(names) > 2 else [])]
    return [_line(group, members, best) for group in chosen]


def best_members(single: Tried, ensembles: Sequence[TriedEnsemble]) -> tuple[str, ...]:
    """Choose the models to predict with: the best single one unless an ensemble is more than 1 % better.

    Of the ensembles within 1 % of the best of them the cheapest.
    """
    worth = [one for one in ensembles if one.auprc > (1 + TOLERANCE) * single.auprc]
    if not worth:
        return (single.model,)
    top = max(one.auprc for one in worth)
    near = [one for one in worth if one.auprc >= (1 - TOLERANCE) * top]
    return min(near, key=lambda one: (one.evaluations_per_slice, -one.auprc)).models


def _member(model: ModelFolder, trial: SyntheticTrial) -> list[_Member]:
    """Return a model's scores for each seed, of the noise and of the anomalies."""
    logger.info("%s: once more, for ensembles", model.path.name)
    plan = chosen_plan(model)
    score = plan.configuration(model.configuration).score
    loaded = trial.load(model)
    found = []
    for draw, settings in enumerate(seeded(make_settings(plan, model.configuration), SEEDS)):
        maps = trial.maps(model, loaded, settings, draw)
        calibration = fit_calibration(maps.healthy, score, settings.to_json(), maps.source, {})
        found.append(_Member(maps.altered, [calibration.scores(one.case)["combined"] for one in maps.altered]))
    return found


def _line(group: tuple[str, ...], members: Mapping[str, list[_Member]], best: Mapping[str, Tried]) -> TriedEnsemble:
    each = [_of_each([members[name][seed] for name in group]) for seed in range(SEEDS)]
    # The anomalies are the same whatever made the maps, so the first member's say what they are.
    of_seeds = [mean_by_kind(members[group[0]][seed].altered, values) for seed, values in enumerate(each)]
    by_kind = {kind: float(np.mean([one[kind] for one in of_seeds])) for kind in of_seeds[0]}
    evaluations = sum(best[name].evaluations_per_slice for name in group)
    all_seeds = tuple(value for values in each for value in values)
    return TriedEnsemble(group, float(np.mean(list(by_kind.values()))), by_kind, evaluations, all_seeds)


def _of_each(members: Sequence[_Member]) -> list[float]:
    scores = [np.mean(several, axis=0) for several in zip(*(one.scores for one in members), strict=True)]
    return auprc_of_each(members[0].altered, scores)
