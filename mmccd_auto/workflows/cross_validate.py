"""Cross-validation: every fold of a trained model predicts the scans that its training held out, as a user would."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.progress import track
from mmccd_auto.core.records import dataclass_from_json, read_record
from mmccd_auto.datasets.dataset import Dataset, find_dataset, load_dataset
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.evaluation.case_files import ANOMALY_ENDING
from mmccd_auto.evaluation.compare import ComparisonResult, compare_folders
from mmccd_auto.evaluation.cross_validation import CrossValidation, FoldPrediction
from mmccd_auto.evaluation.judging import EvaluationOptions
from mmccd_auto.evaluation.page import write_cross_validation_page
from mmccd_auto.imaging.io import read_geometry, write_volume
from mmccd_auto.imaging.labels import read_brain_mask
from mmccd_auto.inference.held_out.held_out_calibration import held_out_calibration, held_out_r2
from mmccd_auto.inference.lesions.records import LesionRecord, write_lesions
from mmccd_auto.inference.maps.fold_model import choose_folds
from mmccd_auto.inference.options import MOST_FITS, LoadOptions, OutputOptions, PredictionOptions, ScoreOptions
from mmccd_auto.inference.prediction.case_files import FAILED, SummaryRow, remove_case_files, write_summary
from mmccd_auto.inference.prediction.folder_run import RunSummary
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.calibration import Calibration
from mmccd_auto.inference.scores.scoring import choose_fits, choose_scoring
from mmccd_auto.plans.splits import SPLITS_FILE, Split, cases_of_fold, check_splits, load_splits
from mmccd_auto.preprocessing.subject_numbers import trained_on
from mmccd_auto.reporting.page.assemble import REPORT_FILE
from mmccd_auto.trained.checkpoint import CHECKPOINT_BEST
from mmccd_auto.trained.model_folder import CALIBRATION_FILE, INFERENCE_FILE, ModelFolder
from mmccd_auto.trained.select import choose_model

RESULT_FOLDER = "cross_validation"
RESULT_FILE = "cross_validation.json"
ALL = "all"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _HeldOut:
    """What is to be predicted.

    Attributes
    ----------
    cases : fold -> held-out cases that have a scan of the input modality, sorted
    left_out : case -> why no fold predicts it
    """

    cases: dict[str, list[str]]
    left_out: dict[str, str]


@dataclass(frozen=True)
class _Job:
    """What is the same for all folds: the model and dataset, splits_final.json, and the user's wishes."""

    model: ModelFolder
    dataset: Dataset
    splits_file: Path
    device: torch.device
    processes: int
    extensions: Sequence[str | Path]
    overwrite: bool


def cross_validate(
    folders: Folders,
    options: PredictionOptions,
    device: torch.device,
    processes: int = 0,
    overwrite: bool = False,
) -> CrossValidation:
    """Predict every case by the fold that held it out, from the raw scans, and judge the maps against labelsTr.

    The scores are calibrated without the people that a fold held out. Maps and figures, which show and name people, go
    beside the model folders, to cross_validation/MODEL. What an interrupted run has finished is kept. A case without a label
    file counts as healthy.

    Parameters
    ----------
    folders : raw, preprocessed (for splits_final.json) and results are used
    options : which model, and which of its folds; None takes every finished one that holds something out
    device : to compute on
    processes : workers that judge; 0 works in this process
    overwrite : predict every case again

    Raises
    ------
    MMCCDError
        If there is no such model, dataset or splits, a fold was trained on what it holds out now, nothing is held out, or
        any case can't be predicted or judged: there are no figures then, since leaving out the difficult cases flatters.
    """
    model = choose_model(folders, options)
    dataset = load_dataset(find_dataset(folders.raw, model.plan.dataset_name))
    splits_file = folders.preprocessed / dataset.name / SPLITS_FILE
    held_out = _find_held_out(model, dataset, _load_splits(splits_file, dataset), options.folds)
    for fold, cases in held_out.cases.items():
        _check_unseen(model, fold, cases, dataset, splits_file)
    with folder_lock(results_of(model), "a cross-validation"):
        job = _Job(model, dataset, splits_file, device, processes, options.extensions, overwrite)
        return _predict_and_judge(job, held_out)


def _predict_and_judge(job: _Job, held_out: _HeldOut) -> CrossValidation:
    model, dataset = job.model, job.dataset
    predictions: dict[str, FoldPrediction] = {}
    failed: list[str] = []
    # The figures of earlier weights or cases must not outlive a run that gives none.
    for path in (results_of(model) / RESULT_FILE, results_of(model) / REPORT_FILE, model.path / RESULT_FILE):
        _remove(path)
    for fold, cases in held_out.cases.items():
        predictions[fold], problems = _predict_fold(job, fold, cases)
        failed += problems
    if failed:
        listed = "\n".join(f"  - {problem}" for problem in failed)
        raise MMCCDError(
            f"{len(failed)} held-out cases of {dataset.folder} can't be predicted, so there are no figures; fix them, or "
            f"take them out of {job.splits_file}, and run the same command again:\n{listed}"
        )
    # The methods are the same in all folds.
    controls = all(one.control for one in predictions.values())
    evaluations = {
        fold: _judge_fold(model, cases, dataset, _maps_of(model, fold), job.processes, controls)
        for fold, cases in held_out.cases.items()
    }
    result = CrossValidation(
        model=model.path.resolve().name,
        dataset=dataset.name,
        method=model.trainer,
        predictions=predictions,
        evaluations=evaluations,
        unlabelled=tuple(case for cases in held_out.cases.values() for case in cases if dataset.label_file(case) is None),
        left_out=held_out.left_out,
        warnings=tuple(_warnings(model, dataset, held_out, evaluations)),
    )
    save_json(result.to_json(), results_of(model) / RESULT_FILE)
    write_cross_validation_page(
        f"{result.model}, {result.dataset}",
        evaluations,
        {fold: _maps_of(model, fold) for fold in evaluations},
        result.warnings,
        results_of(model) / REPORT_FILE,
    )
    return result


def results_of(model: ModelFolder) -> Path:
    """Find where a model's cross-validation is: beside the model folders, since it names people and shows their brains."""
    path = model.path.resolve()
    return path.parent / RESULT_FOLDER / path.name


def _maps_of(model: ModelFolder, fold: str) -> Path:
    return results_of(model) / model.fold(fold).name


def _load_splits(path: Path, dataset: Dataset) -> list[Split]:
    if not path.is_file():
        raise MMCCDError(
            f"{path} does not exist: it says which cases each fold held out; copy it from where the model was trained."
        )
    return check_splits(load_splits(path), {case: dataset.subject(case) for case in dataset.training_cases()}, str(path))


def _find_held_out(model: ModelFolder, dataset: Dataset, splits: Sequence[Split], wanted: Sequence[str] | None) -> _HeldOut:
    """Decide which fold predicts which case, and which cases are predicted by none."""
    finished = choose_folds(model, None)
    folds = [fold for fold in finished if fold != ALL] if wanted is None else choose_folds(model, wanted)
    if not folds or ALL in folds:
        raise MMCCDError(
            f"{model.path}: the fold all holds no case out: train one of the folds 0, 1, ... and validate that."
        )
    modality = model.input_modality
    everything = dataset.cases()
    cases: dict[str, list[str]] = {}
    left_out: dict[str, str] = {}
    for fold in folds:
        held_out = sorted(cases_of_fold(splits, everything, fold)["val"])
        cases[fold] = [case for case in held_out if dataset.channel_file(case, modality).is_file()]
        left_out |= {case: f"it has no {modality}" for case in held_out if case not in cases[fold]}
    _check_once(cases)
    predicted = {case for of_fold in cases.values() for case in of_fold}
    for case in everything:
        if case not in predicted and case not in left_out:
            left_out[case] = _why_left_out(case, splits, finished)
    cases = {fold: of_fold for fold, of_fold in cases.items() if of_fold}
    if not cases:
        raise MMCCDError(
            f"{dataset.folder}: no case with {modality} is held out by fold {', '.join(folds)} of {model.path}: train "
            "another fold, or choose it with -f."
        )
    return _HeldOut(cases, dict(sorted(left_out.items())))


def _check_once(cases: Mapping[str, Sequence[str]]) -> None:
    seen: dict[str, str] = {}
    for fold, of_fold in cases.items():
        for case in of_fold:
            if case in seen:
                raise MMCCDError(
                    f"{SPLITS_FILE}: {case} is held out by fold {seen[case]} and by fold {fold}: choose folds with -f so "
                    "that each case is judged once."
                )
            seen[case] = fold


def _why_left_out(case: str, splits: Sequence[Split], finished: Sequence[str]) -> str:
    holding = [str(fold) for fold, split in enumerate(splits) if case in split["val"]]
    if not holding:
        return f"no fold of {SPLITS_FILE} holds it out"
    there = [fold for fold in holding if fold in finished]
    return (
        f"held out by fold {there[0]}, left out by -f" if there else f"held out by fold {holding[0]}, which is not trained"
    )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise MMCCDError(f"{path} can't be removed ({error.strerror or error}): check who may write there.") from error


def _check_unseen(model: ModelFolder, fold: str, cases: Sequence[str], dataset: Dataset, splits_file: Path) -> None:
    """Raise :class:`MMCCDError` where the fold was trained on one of the people: the splits were changed since."""
    trained = trained_on(model.checkpoint(fold).record, splits_file.parent)
    known = {dataset.subject(case) for case in trained}
    seen = sorted(case for case in cases if dataset.subject(case) in known)
    if seen:
        raise MMCCDError(
            f"{splits_file} holds {', '.join(seen)} out of fold {fold}, but {model.fold(fold)} was trained on the same "
            "people: restore the splits, or train the fold again."
        )


def _predict_fold(job: _Job, fold: str, cases: Sequence[str]) -> tuple[FoldPrediction, list[str]]:
    """Predict a fold's held-out cases; also one sentence for each that could not be predicted."""
    model, dataset = job.model, job.dataset
    preprocessed = job.splits_file.parent / model.plans_name
    predictor = Predictor.from_model_folder(model.path, LoadOptions(folds=[fold], extensions=job.extensions), job.device)
    (loaded,) = predictor.folds
    people = {dataset.subject(case) for case in cases}
    found = held_out_calibration(model, loaded, cases, people, predictor.settings, preprocessed)
    calibrations = {} if found.calibration is None else {fold: found.calibration}
    # Scans are fitted as often as those that they are calibrated on, whatever the fold's own calibration says.
    predictor.settings, predictor.one_fit = choose_fits(
        replace(predictor.settings, fits=MOST_FITS), None, {fold: found.calibration}, model.path.resolve().name
    )
    predictor.scoring = choose_scoring(model, predictor.folds, predictor.settings, ScoreOptions(), calibrations)
    output = _maps_of(model, fold)
    _discard_other_maps(output, cases, found.calibration, job.overwrite)
    rows = _predict_cases(predictor, cases, dataset, output, f"fold {fold}")
    explained = held_out_r2(model, fold, predictor.settings, preprocessed)
    told = FoldPrediction(
        folder=output.name,
        weights_sha256=loaded.weights_sha256,
        calibration=found.origin,
        calibration_folds=found.folds,
        calibration_subjects=0 if found.calibration is None else len(found.calibration.subjects),
        scoring=predictor.scoring.to_json(),
        settings=predictor.settings.to_json(),
        control=predictor.scoring.has_control,
        reconstruction_r2=float(np.mean(explained)) if explained else None,
        reconstruction_subjects=len(explained),
    )
    return told, [f"fold {fold}: {row.reason}" for row in rows if row.status == FAILED]


def _discard_other_maps(output: Path, cases: Sequence[str], calibration: Calibration | None, overwrite: bool) -> None:
    """Remove maps of another calibration, which CASE.json alone doesn't distinguish, and note the one that is used now."""
    path = output / CALIBRATION_FILE
    content = None if calibration is None else asdict(calibration)
    if not overwrite and path.is_file():
        try:
            if read_record(Calibration | None, path) == dataclass_from_json(Calibration | None, content, str(path)):
                return
        except MMCCDError as error:
            logger.warning("%s The maps beside it are made again.", error)
    for case in cases:
        remove_case_files(output, case)
    save_json(content, path)


def _predict_cases(
    predictor: Predictor, cases: Sequence[str], dataset: Dataset, output: Path, description: str
) -> list[SummaryRow]:
    """Predict scan by scan, because imagesTr holds those of other folds, too; summary.csv and lesions.csv are of all."""
    rows: list[SummaryRow] = []
    lesions: list[tuple[str, LesionRecord]] = []
    with workspace("cross-validate") as temporary:
        try:
            for case in track(cases, total=len(cases), description=description, unit="case"):
                scan = dataset.channel_file(case, predictor.input_modality)
                masks = _brain_masks_of(dataset, case, temporary)
                predicted = _predict_one(predictor, scan, output, masks)
                rows += predicted.rows
                lesions += predicted.lesions
        finally:
            write_summary(rows, output)
            write_lesions(lesions, output)
    return rows


def _predict_one(predictor: Predictor, scan: Path, output: Path, masks: Path | None) -> RunSummary:
    """Predict without a report, which would show one case only; with the control, where the calibration has one."""
    control = predictor.scoring.has_control
    options = OutputOptions(brain_masks=masks, save_control=control, continue_prediction=True, report=False)
    return predictor.predict_folder(scan, output, options)


def _brain_masks_of(dataset: Dataset, case: str, workspace: Path) -> Path | None:
    """Return a folder with the case's brain mask as CASE.nii.gz, which is how prediction wants it.

    None where none is given.
    """
    given = dataset.brain_mask_file(case)
    if given is None or given.name == f"{case}.nii.gz":
        return None if given is None else given.parent
    mask = read_brain_mask(given)
    write_volume(mask.array, mask.geometry, workspace / f"{case}.nii.gz")
    return workspace


def _judge_fold(
    model: ModelFolder, cases: Sequence[str], dataset: Dataset, maps: Path, processes: int, controls: bool
) -> ComparisonResult:
    """Judge a fold's maps against labelsTr, where a case without a file gets a label of zeros."""
    with workspace("cross-validate") as temporary:
        reference = temporary / "labelsTr"
        reference.mkdir()
        for case in cases:
            label = dataset.label_file(case)
            if label is None:
                geometry = read_geometry(maps / f"{case}{ANOMALY_ENDING}")
                nothing = np.zeros(tuple(reversed(geometry.size)), dtype=np.uint8)
                write_volume(nothing, geometry, reference / f"{case}.nii.gz")
            else:
                _copy(label, reference / label.name)
        try:
            return compare_folders(
                reference,
                {model.trainer: maps},
                EvaluationOptions(dataset.images_folder(), label_values=dataset.label_values),
                processes=processes,
                with_controls=controls,
            )
        except MMCCDError as error:
            # The sentence should name the user's file, not its copy.
            raise MMCCDError(str(error).replace(str(reference), str(dataset.labels_folder()))) from error


def _copy(file: Path, target: Path) -> None:
    try:
        shutil.copyfile(file, target)
    except OSError as error:
        raise MMCCDError(f"{file} can't be copied to {target} ({error.strerror or error}): check both.") from error


def _warnings(
    model: ModelFolder, dataset: Dataset, held_out: _HeldOut, evaluations: Mapping[str, ComparisonResult]
) -> list[str]:
    """Describe what a reader of the figures should know; what hasn't been said already is logged."""
    found = []
    if all(dataset.label_file(case) is None for cases in held_out.cases.values() for case in cases):
        found.append(
            f"{dataset.labels_folder()} holds no label of these cases, so all of them are taken for healthy: AUPRC and best "
            "Dice are undefined, and only the masked share of the brain means something."
        )
    if (model.path / INFERENCE_FILE).is_file():
        found.append(
            f"{model.path / INFERENCE_FILE}: steps, strips and score were chosen by synthetic anomalies in healthy slices "
            "of held-out cases, which are not wholly unseen therefore."
        )
    judged = [fold for fold in held_out.cases if (model.fold(fold) / CHECKPOINT_BEST).is_file()]
    if judged:
        found.append(
            f"{CHECKPOINT_BEST} of fold {', '.join(judged)}: which state of the training predicts was chosen by synthetic "
            "anomalies in healthy slices of held-out cases, which are not wholly unseen therefore."
        )
    for warning in found:
        logger.warning("%s", warning)
    return found + [warning for evaluation in evaluations.values() for warning in evaluation.warnings]
