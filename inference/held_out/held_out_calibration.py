"""The calibration for scans that a fold held out: fitted without them, so that cross-validation doesn't know its cases."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mmccd_auto.inference.held_out.calibrate import calibration_by_maps, folds_with_maps
from mmccd_auto.inference.held_out.validation_maps import ValidationRecord, load_validation_maps, load_validation_record
from mmccd_auto.inference.maps.fold_model import FoldModel
from mmccd_auto.inference.maps.settings import InferenceSettings
from mmccd_auto.inference.options import MOST_FITS
from mmccd_auto.inference.scores.calibration import HELD_OUT, TRAINED_ON, Calibration, calibration_of
from mmccd_auto.inference.scores.control import r2_by_subject
from mmccd_auto.inference.scores.score_units import ScoreUnits
from mmccd_auto.trained.model_folder import ModelFolder

WITHOUT_OWN = "without the fold's own subjects"
OF_FOLD = "of the fold itself"
UNCALIBRATED = "none"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOutCalibration:
    """What a fold's held-out scans are scored by.

    Attributes
    ----------
    origin : WITHOUT_OWN, OF_FOLD (which knows the scans) or UNCALIBRATED
    folds : whose healthy slices are in it, where the origin is WITHOUT_OWN; else empty
    calibration : None where there is none
    """

    origin: str
    folds: tuple[str, ...]
    calibration: Calibration | None


def held_out_calibration(
    model: ModelFolder,
    fold: FoldModel,
    cases: Collection[str],
    subjects: Collection[str],
    settings: InferenceSettings,
    preprocessed: Path,
) -> HeldOutCalibration:
    """Calibrate on the healthy slices of the other folds, without those of the people whom this fold held out.

    calibration.json of a fold is fitted on the held-out slices of all folds, its own among them. Where no other fold has
    slices, it is taken nevertheless, which is said.

    Parameters
    ----------
    model : with the folds' validation maps
    fold : whose held-out scans are to be predicted
    cases, subjects : that it held out
    settings : by which maps will be made, but for the number of fits, which is that of the other folds' maps: two where any
        of them has such maps
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET

    Raises
    ------
    MMCCDError
        If a file of the other folds is missing or broken.
    """
    for settings in (replace(settings, fits=fits) for fits in range(MOST_FITS, 0, -1)):
        records = _records_without(model, fold.fold, cases, subjects, settings, preprocessed)
        if records:
            break
    if records:
        source = next(iter(records.values())).source
        if source == TRAINED_ON:
            logger.warning(
                "fold %s: no other fold has maps of slices that it held out, so the scores are calibrated on %s of fold %s, "
                "and there may be more false alarms than promised: train more folds.",
                fold.fold,
                source,
                ", ".join(records),
            )
        weights, first_look = {fold.fold: fold.weights_sha256}, _first_look(model, records, preprocessed)
        calibration = calibration_by_maps(model, records, settings, weights, preprocessed, first_look)
        return HeldOutCalibration(WITHOUT_OWN, tuple(records), calibration)
    own = calibration_of(model, fold)
    if own is None:
        return HeldOutCalibration(UNCALIBRATED, (), None)
    logger.warning(
        "fold %s: no other fold has maps of other people's healthy slices by these settings, so the scores are calibrated "
        "on the very people that are predicted, and new scans may have more false alarms: train more folds, or run "
        "mmccd_calibrate.",
        fold.fold,
    )
    return HeldOutCalibration(OF_FOLD, (), own)


def held_out_r2(model: ModelFolder, fold: str, settings: InferenceSettings, preprocessed: Path) -> list[float]:
    """Measure the reconstruction on the healthy slices that a fold held out.

    Parameters
    ----------
    model, fold : trained
    settings : by which maps are made
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET

    Returns
    -------
    R2 of each person, see :func:`mmccd_auto.inference.scores.control.reconstruction_r2`; empty where the fold has no such
    maps

    Raises
    ------
    MMCCDError
        If a file is missing or broken.
    """
    record = folds_with_maps(model, settings, preprocessed).get(fold)
    if record is None or record.source != HELD_OUT:
        return []
    found = r2_by_subject(load_validation_maps(model, fold, record, preprocessed))
    return [value for value in found.values() if value is not None]


def _records_without(
    model: ModelFolder,
    fold: str,
    cases: Collection[str],
    subjects: Collection[str],
    settings: InferenceSettings,
    preprocessed: Path,
) -> dict[str, ValidationRecord]:
    """Return the other folds' validation records without these people.

    Those of held-out slices alone, where there are any.
    """
    found = {}
    for name, record in folds_with_maps(model, settings, preprocessed).items():
        others = {case: subject for case, subject in record.cases.items() if case not in cases and subject not in subjects}
        if name != fold and others:
            found[name] = replace(record, cases=others)
    held_out = {name: record for name, record in found.items() if record.source == HELD_OUT}
    return held_out or found


def _first_look(model: ModelFolder, records: Mapping[str, ValidationRecord], preprocessed: Path) -> ScoreUnits | None:
    """Return the first look of one of the other folds.

    Of one that knows none of these people, where there is such a fold.
    """
    whole = {name: load_validation_record(model, name, preprocessed) for name in records}
    people = {name: None if record is None else record.cases for name, record in whole.items()}
    strangers = [record for name, record in records.items() if record.cases == people[name]]
    return (strangers or list(records.values()))[0].first_look
