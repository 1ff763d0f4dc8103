"""Calibration of a model folder: every trained fold is calibrated on the held-out healthy slices of all of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.core.wording import counted, listed
from mmccd_auto.datasets.ages import read_ages
from mmccd_auto.datasets.dataset import DATASET_FILE
from mmccd_auto.inference.held_out.validation_maps import (
    ValidationRecord,
    load_validation_maps,
    load_validation_record,
    make_validation_maps,
)
from mmccd_auto.inference.maps.fold_model import choose_folds
from mmccd_auto.inference.maps.settings import InferenceSettings, make_settings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import DEFAULT_SCORE, MAX_SLICES, MapOptions
from mmccd_auto.inference.scores.calibration import (
    ENOUGH_PEOPLE,
    HELD_OUT,
    TRAINED_ON,
    Calibration,
    SliceSource,
    fit_calibration,
    load_calibration,
)
from mmccd_auto.inference.scores.control import fit_control
from mmccd_auto.inference.scores.edge_profile import fit_healthy_edge
from mmccd_auto.inference.scores.score_units import ScoreUnits
from mmccd_auto.plans.plan import ScorePlan
from mmccd_auto.preprocessing.slices import load_case_records
from mmccd_auto.preprocessing.stored_samples import has_samples
from mmccd_auto.preprocessing.subject_numbers import load_subject_numbers
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import CALIBRATION_FILE, ModelFolder

FEW_SUBJECTS = 3
OLDEST_TOLD = 90.0
NO_SAMPLES = "holds slices of an earlier version, which can't be fitted twice: run mmccd_plan_and_preprocess again"
logger = logging.getLogger(__name__)


def calibrate_model(
    model_folder: str | Path,
    preprocessed: str | Path,
    folds: Sequence[str] | None = None,
    *,
    device: torch.device,
    max_slices: int = MAX_SLICES,
    extensions: Sequence[str | Path] = (),
    fits: int | None = None,
) -> Calibration:
    """Send held-out healthy slices of ``folds`` through their cycles, then calibrate every fold that has such maps.

    Folds are trainings of one kind, and each subject was held out by one of them. So all of them say what a new healthy
    scan scores, and calibrating on all their subjects together is steadier than on the few of each fold.

    Parameters
    ----------
    model_folder : TRAINER__PLANS__CONFIGURATION
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET, with splits_final.json beside it
    folds : whose maps are made again; None makes those of every finished fold
    device : where to compute
    max_slices : of one fold
    extensions : folders with the user's own trainers
    fits : of the bias field and the intensity scale of each scan; None makes two where the preprocessed scans can be fitted
        twice; prediction makes as many

    Returns
    -------
    what is written into fold_K/calibration.json of each of them, but for the first look, which is each fold's own: it was
    part of how the fold's maps were made

    Raises
    ------
    MMCCDError
        If a fold isn't trained, or there is no healthy slice at all.
    """
    model = ModelFolder(Path(model_folder))
    settings = _settings(model, Path(preprocessed), fits)
    for fold in choose_folds(model, folds):
        make_validation_maps(model, fold, Path(preprocessed), settings, device, max_slices, extensions)
    members = _members(model, settings, preprocessed)
    # What a fold was trained on counts only where no fold has held anything out: the cycle knows it.
    source = HELD_OUT if any(record.source == HELD_OUT for record in members.values()) else TRAINED_ON
    shown = {fold: record for fold, record in members.items() if record.source == source}
    calibration = calibration_by_maps(
        model,
        shown,
        settings,
        {fold: record.weights_sha256 for fold, record in members.items()},
        Path(preprocessed),
        next(iter(members.values())).first_look,
    )
    for fold, record in members.items():
        save_json(asdict(with_first_look(calibration, record.first_look)), model.fold(fold) / CALIBRATION_FILE)
    _tell(model, calibration)
    return calibration


def calibration_by_maps(
    model: ModelFolder,
    records: Mapping[str, ValidationRecord],
    settings: InferenceSettings,
    weights_sha256: Mapping[str, str],
    preprocessed: Path,
    first_look: ScoreUnits | None,
) -> Calibration:
    """Calibrate on the maps of some folds' healthy slices.

    By the input modality alone, and with each subset of further modalities that enough of the people have.

    Parameters
    ----------
    model : of the folds
    records : of each fold whose maps count, at least one; all of one source
    settings, weights_sha256, first_look : see :func:`calibration_on`
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET

    Raises
    ------
    MMCCDError
        If a file is missing or broken.
    """
    score = chosen_plan(model).configuration(model.configuration).score
    source = next(iter(records.values())).source
    rest = (score, settings, source, weights_sha256, preprocessed.parent, first_look)

    def maps_with(subset: str) -> list[CaseMaps]:
        return [
            case
            for fold, record in records.items()
            for case in load_validation_maps(model, fold, record, preprocessed, subset)
        ]

    alone = calibration_on(maps_with(""), *rest)
    needed = needed_for_subset(len(alone.subjects))
    further = {}
    for subset in dict.fromkeys(name for record in records.values() for name in record.further):
        cases = maps_with(subset)
        if len({case.subject for case in cases}) >= needed:
            further[subset] = calibration_on(cases, *rest)
        else:
            logger.warning("%s: too few healthy people have %s for units of their own.", model.path, subset)
    return replace(alone, further=further)


def needed_for_subset(people: int) -> int:
    """Count how many people units for a subset of further modalities need, where ``people`` calibrate the input alone.

    Half of them, or as many as are enough for everything that a calibration says, and three: of a patient who has these
    modalities nothing else counts.
    """
    return min(people, max(FEW_SUBJECTS, min(ENOUGH_PEOPLE, math.ceil(people / 2))))


def with_first_look(calibration: Calibration, first_look: ScoreUnits | None) -> Calibration:
    """Return the calibration, with that of each subset of further modalities, for a fold's own first look."""
    further = {name: replace(one, first_look=first_look) for name, one in calibration.further.items()}
    return replace(calibration, first_look=first_look, further=further)


def calibration_on(
    cases: Sequence[CaseMaps],
    score: ScorePlan,
    settings: InferenceSettings,
    source: SliceSource,
    weights_sha256: Mapping[str, str],
    home: Path,
    first_look: ScoreUnits | None = None,
) -> Calibration:
    """Calibrate on healthy slices, with the control without a network, the profile of the brain's edge, and numbers.

    People have numbers instead of names, since it lies in a model folder, which is handed on.

    Parameters
    ----------
    cases : with the people's names; one that is there twice, where folds were trained on splits of other times, counts once
    score, source, weights_sha256, first_look : see :func:`mmccd_auto.inference.scores.calibration.fit_calibration`
    settings : by which the maps were made
    home : $mmccd_preprocessed/DATASET, which holds the link from people to numbers, and dataset.json with their ages
    """
    cases = list({case.case: case for case in cases}.values())
    calibration = fit_calibration(cases, score, settings.to_json(), source, weights_sha256, first_look)
    numbers = load_subject_numbers(home, {case.case: case.subject for case in cases})
    return with_people(calibration, cases, numbers.subjects, _ages_of_people(cases, home))


def with_people(
    calibration: Calibration, cases: Sequence[CaseMaps], numbers: Mapping[str, str], ages: Mapping[str, float]
) -> Calibration:
    """Give the people of a calibration numbers and ages, and fit what belongs beside it on the same slices.

    That is the control without a network, and how healthy people score at the brain's edge.

    Parameters
    ----------
    calibration : fitted on ``cases``
    cases : its slices
    numbers : by person, what a model folder calls them
    ages : by person, where known, see :func:`told_age`
    """
    subjects = [replace(one, subject=numbers[one.subject], age=ages.get(one.subject)) for one in calibration.subjects]
    edge = fit_healthy_edge(cases, [calibration.scores(case)[DEFAULT_SCORE] for case in cases])
    return replace(
        calibration,
        subjects=tuple(subjects),
        control=calibration.control or fit_control(cases, calibration.score),
        edge=edge,
    )


def told_age(years: Sequence[float]) -> float:
    """Round a person's mean age to whole years, 90 for more: a model folder is handed on, and tells no more of anybody."""
    return min(OLDEST_TOLD, float(round(sum(years) / len(years))))


def _ages_of_people(cases: Sequence[CaseMaps], home: Path) -> dict[str, float]:
    """Return the age of each person in whole years, 90 for more.

    A model folder, which is handed on, shows no more of anybody.
    """
    file = home / DATASET_FILE
    known = read_ages(read_record(JsonObject, file), file) if file.is_file() else {}
    of_people: dict[str, list[float]] = {}
    for case in cases:
        if case.case in known:
            of_people.setdefault(case.subject, []).append(known[case.case])
    return {person: told_age(ages) for person, ages in of_people.items()}


def is_calibrated(model: ModelFolder, fold: str) -> bool:
    """Check whether a fold has a calibration that was made for its weights.

    Also by the settings and score that predict now, with the control without a network; of one fit or of two, which
    prediction follows.

    Raises
    ------
    MMCCDError
        If calibration.json is broken.
    """
    calibration = load_calibration(model.fold(fold) / CALIBRATION_FILE)
    if calibration is None or calibration.control is None:
        return False
    if calibration.weights_sha256.get(fold) != model.weights_sha256(fold):
        return False
    plan = chosen_plan(model)
    score = plan.configuration(model.configuration).score
    return not calibration.differences(
        make_settings(plan, model.configuration, options=MapOptions(fits=calibration.fits)), score
    )


def folds_with_maps(
    model: ModelFolder, settings: InferenceSettings, preprocessed: str | Path
) -> dict[str, ValidationRecord]:
    """Return the folds whose maps are there and fit: made by these settings and by the weights that are there now."""
    found = {}
    for fold in model.folds():
        record = load_validation_record(model, fold, preprocessed)
        if record is None or not record.made_by(settings):
            continue
        if record.weights_sha256 == model.weights_sha256(fold):
            found[fold] = record
    return found


def _members(model: ModelFolder, settings: InferenceSettings, preprocessed: str | Path) -> dict[str, ValidationRecord]:
    """Select those of :func:`folds_with_maps`; raise :class:`MMCCDError` where there is none."""
    found = folds_with_maps(model, settings, preprocessed)
    if not found:
        raise MMCCDError(f"{model.path}: no fold has maps of healthy slices to calibrate on: run mmccd_calibrate.")
    return found


def _settings(model: ModelFolder, preprocessed: Path, fits: int | None) -> InferenceSettings:
    """Return the model's own, with one fit where the preprocessed scans can't be fitted twice."""
    settings = make_settings(chosen_plan(model), model.configuration, options=MapOptions(fits=fits))
    if settings.fits == 1 or all(has_samples(preprocessed / case) for case in load_case_records(preprocessed)):
        return settings
    if fits is not None:
        raise MMCCDError(f"{preprocessed} {NO_SAMPLES}.")
    logger.warning("%s %s; scans are calibrated and predicted with one fit.", preprocessed, NO_SAMPLES)
    return replace(settings, fits=1)


def describe_reconstruction(calibration: Calibration) -> str:
    """Say which share of the healthy tissue's variance the networks explain."""
    known = [one.reconstruction_r2 for one in calibration.subjects if one.reconstruction_r2 is not None]
    if not known:
        return "how well the reconstruction explains healthy tissue (R2) is not known"
    spread = f" (from {min(known):.3f} to {max(known):.3f})" if len(known) > 1 else ""
    return (
        f"the reconstruction explains R2 {calibration.reconstruction_r2:.3f}{spread} of {calibration.source} of "
        f"{counted(len(known), 'subject')}; a constant explains 0"
    )


def _tell(model: ModelFolder, calibration: Calibration) -> None:
    subjects = len(calibration.subjects)
    logger.info(
        "%s: calibrated on %d %s of %s, %s",
        model.path,
        sum(subject.slices for subject in calibration.subjects),
        calibration.source,
        counted(subjects, "subject"),
        listed(calibration.weights_sha256, "fold"),
    )
    logger.info("%s", describe_reconstruction(calibration))
    for text in calibration.limits:
        logger.warning("%s", text)
    if subjects < FEW_SUBJECTS:
        logger.warning(
            "only %s to calibrate on: scans of others may have several times the promised false alarms. Train more folds, "
            "or add healthy scans.",
            counted(subjects, "healthy subject"),
        )
