"""Calibration on the user's own healthy scans, of a model that was trained on others."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.streams import Settled, closed_at_the_end
from mmccd_auto.core.progress import Progress
from mmccd_auto.core.wording import counted
from mmccd_auto.inference.held_out.calibrate import told_age, with_people
from mmccd_auto.inference.maps.fold_model import FoldModel
from mmccd_auto.inference.maps.settings import InferenceSettings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.scores.calibration import OWN_SCANS, Calibration, fit_calibration
from mmccd_auto.inference.scores.found_rates import FoundRate, rates_by
from mmccd_auto.inference.scores.score_units import ScoreUnits
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import ModelFolder

ENOUGH_PEOPLE = 5
"""Fewer give a warning: one odd brain decides the mask."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnPeople:
    """Whose scans they are.

    Attributes
    ----------
    of_case : person by case; a case that isn't named is a person of its own
    ages : years by case, where known
    """

    of_case: Mapping[str, str] = field(default_factory=dict)
    ages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnCalibration:
    """What a calibration on the user's own scans gave.

    Attributes
    ----------
    by_fold : the calibration of each fold
    before : by fold, what the calibration that it had until then promised and gave on these scans; of folds that had one
    failed : a sentence for each scan that could not be used
    """

    by_fold: dict[str, Calibration]
    before: dict[str, dict[str, list[FoundRate]]]
    failed: list[str]


@dataclass(frozen=True)
class CalibratedModel:
    """The model whose calibration is made again.

    Attributes
    ----------
    folder : of the model
    folds : loaded, in the order of their maps
    settings : by which the maps are made
    first_looks : by fold, what turned the errors of the first fit into scores; None for one fit
    calibrations : that it has, by fold
    """

    folder: ModelFolder
    folds: tuple[FoldModel, ...]
    settings: InferenceSettings
    first_looks: Mapping[str, ScoreUnits | None]
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)


def calibrate_on_own_scans(
    model: CalibratedModel, maps: Iterator[tuple[CaseMaps, ...] | Settled], count: int, people: OwnPeople
) -> OwnCalibration:
    """Calibrate every fold of a model on whole scans of healthy people, prepared as a prediction prepares them.

    What the first look leaves out of the second fit stays as the model's maker calibrated it: it is part of how the maps are
    made.

    Parameters
    ----------
    model : with the settings that predict
    maps : of each scan those of every fold, or Settled with why it can't be used; closed at the end
    count : of the scans, for the progress
    people : whose they are

    Raises
    ------
    MMCCDError
        If none of the scans can be used.
    """
    by_fold: list[list[CaseMaps]] = [[] for _ in model.folds]
    failed: list[str] = []
    with closed_at_the_end(maps), Progress(count, "calibration", "scan") as progress:
        for of_scan in maps:
            progress.update()
            if isinstance(of_scan, Settled):
                failed.append(str(of_scan.outcome))
                continue
            for known, one in zip(by_fold, of_scan, strict=True):
                known.append(replace(one, subject=people.of_case.get(one.case, one.case)))
    if not by_fold[0]:
        raise MMCCDError(f"none of {counted(count, 'scan')} of healthy people can be used; the first: {failed[0]}")
    persons = sorted({case.subject for case in by_fold[0]})
    if len(persons) < ENOUGH_PEOPLE:
        logger.warning(
            "only %s: one odd brain decides what counts as abnormal; give the scans of %d or more.",
            counted(len(persons), "healthy person", "healthy people"),
            ENOUGH_PEOPLE,
        )
    numbers = {person: f"subject_{place:02d}" for place, person in enumerate(persons, start=1)}
    ages = _ages(by_fold[0], people)
    score = chosen_plan(model.folder).configuration(model.folder.configuration).score
    found = {}
    for fold, cases in zip(model.folds, by_fold, strict=True):
        weights, first_look = {fold.fold: fold.weights_sha256}, model.first_looks.get(fold.fold)
        fitted = fit_calibration(cases, score, model.settings.to_json(), OWN_SCANS, weights, first_look)
        found[fold.fold] = with_people(fitted, cases, numbers, ages)
    of_folds = dict(zip((fold.fold for fold in model.folds), by_fold, strict=True))
    before = {fold: rates_by(one, of_folds[fold]) for fold, one in model.calibrations.items() if fold in of_folds}
    return OwnCalibration(found, before, failed)


def _ages(cases: Iterable[CaseMaps], people: OwnPeople) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for case in cases:
        if case.case in people.ages:
            found.setdefault(case.subject, []).append(people.ages[case.case])
    return {person: told_age(years) for person, years in found.items()}
