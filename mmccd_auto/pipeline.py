"""What the commands do, as functions that a notebook can call too: import, plan and preprocess, train, predict, evaluate."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch

from mmccd_auto.datasets import Dataset, find_dataset, list_datasets, load_dataset
from mmccd_auto.errors import MMCCDError
from mmccd_auto.evaluation.compare import compare_folders, name_predictions
from mmccd_auto.evaluation.evaluate import evaluate_folder
from mmccd_auto.evaluation.table import comparison_table, method_table
from mmccd_auto.files import load_json, save_json
from mmccd_auto.importing.import_dataset import ImportOptions, ImportSummary, import_dataset
from mmccd_auto.inference.calibrate import calibrate_model
from mmccd_auto.inference.choose_steps import choose_steps
from mmccd_auto.inference.ensemble import Ensemble
from mmccd_auto.inference.predictor import Predictor
from mmccd_auto.inference.scan_predictor import ScanPredictor
from mmccd_auto.inference.training_judge import find_judge
from mmccd_auto.integrity import verify_dataset
from mmccd_auto.large_blocks import keep_large_blocks
from mmccd_auto.model_choice import PredictionOptions, choose_models
from mmccd_auto.paths import Folders
from mmccd_auto.plans.cost import device_memory_gb, measure_device_speed
from mmccd_auto.plans.find_planner import find_planner
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, fingerprint_dataset
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.plans.report import describe_plan
from mmccd_auto.plans.splits import SPLITS_FILE, check_structure, write_or_load_splits
from mmccd_auto.preprocessing.preprocess_dataset import preprocess_dataset
from mmccd_auto.training.find_trainer import find_trainer
from mmccd_auto.training.fold_folder import DATASET_FILE
from mmccd_auto.training.model_folder import fold_folder, model_folder_name
from mmccd_auto.training.ranks import ALONE, Ranks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlanningOptions:
    """What a user may ask of the planner; see the command's help for each."""

    planner: str = "MMCCDPlanner"
    resolution: str = "standard"
    memory_budget_gb: float | None = None
    target_spacing: float | None = None
    plans_name: str | None = None
    time_budget_minutes: float = 10.0
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingOptions:
    """What a user may ask of a training; see the command's help for each."""

    configuration: str | None = None
    trainer: str = "MMCCDTrainer"
    plans_name: str = "mmccdPlans"
    num_epochs: int | None = None
    iterations_per_epoch: int | None = None
    choose_steps: bool = True
    extensions: tuple[str, ...] = ()


def import_export(
    folders: Folders, source: str | Path, number: int, name: str, options: ImportOptions, processes: int
) -> ImportSummary:
    """Turn a hospital export into the raw dataset ``DatasetXXX_Name``.

    Parameters
    ----------
    folders : raw is used
    source : folder, zip archive or DICOMDIR
    number, name : of the dataset
    options : the user's wishes
    processes : workers; 0 works in this process

    Raises
    ------
    MMCCDError
        If the number or name can't be used, or there is nothing to import.
    """
    if not 0 <= number <= 999 or re.fullmatch(r"[\w-]+", name) is None:
        raise MMCCDError(f"-d {number} -n {name}: give a number from 0 to 999, and a name of letters, digits, _ and -.")
    folder = folders.raw / f"Dataset{number:03d}_{name}"
    others = [one.name for one in list_datasets(folders.raw) if one.name.startswith(f"Dataset{number:03d}_")]
    if others and folder.name not in others:
        raise MMCCDError(f"{folders.raw} has a dataset of number {number} already ({others[0]}): choose another number.")
    return import_dataset(source, folder, options, processes)


def plan_and_preprocess(
    folders: Folders,
    datasets: Sequence[int | str] | None,
    planning: PlanningOptions,
    device: torch.device,
    processes: int,
    verify: bool = False,
    preprocess: bool = True,
    overwrite: bool = False,
) -> list[str]:
    """Fingerprint, plan and preprocess datasets.

    Parameters
    ----------
    folders : raw and preprocessed are used
    datasets : numbers or names; None takes every dataset of the raw folder
    planning : the user's wishes
    device : that will train and predict; it is timed, so that the plan fits it
    processes : workers; 0 works in this process
    verify : check every file first
    preprocess : write slices, too
    overwrite : redo the fingerprint, the plan and the slices; else what exists is kept and obeyed

    Returns
    -------
    one sentence for each case that could not be used; empty when all went well

    Raises
    ------
    MMCCDError
        If a dataset can't be found, its check finds a problem, or it can't be planned.
    """
    found = (
        list_datasets(folders.raw)
        if datasets is None
        else [find_dataset(folders.raw, identifier) for identifier in datasets]
    )
    if not found:
        raise MMCCDError(f"{folders.raw} holds no dataset: put a folder DatasetXXX_Name there.")
    failed: list[str] = []
    for folder in found:
        dataset = load_dataset(folder)
        if verify:
            _verify(dataset, processes)
        plan, unusable = make_plan(folders, dataset, planning, device, processes, overwrite)
        failed += unusable
        logger.info("%s", describe_plan(plan))
        if preprocess:
            output = folders.preprocessed / dataset.name / plan.plans_name
            outcomes = preprocess_dataset(dataset, plan, output, processes, overwrite)
            failed += [f"{dataset.name}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
    return list(dict.fromkeys(failed))


def make_plan(
    folders: Folders,
    dataset: Dataset,
    planning: PlanningOptions,
    device: torch.device,
    processes: int,
    overwrite: bool = False,
) -> tuple[Plan, list[str]]:
    """Fingerprint a dataset and plan for it; an existing plans.json is kept unless ``overwrite``.

    Returns
    -------
    the plan, and one sentence for each case that could not be measured
    """
    if device.type == "cpu":
        # As it will be at training and prediction: the planner times the network.
        keep_large_blocks()
    home = folders.preprocessed / dataset.name
    fingerprint = fingerprint_dataset(dataset, home / FINGERPRINT_FILE, processes, overwrite)
    failed = [f"{dataset.name}: {error}" for error in fingerprint.failed.values()]
    planner = find_planner(planning.planner, [Path(folder) for folder in planning.extensions])(
        fingerprint,
        dataset.name,
        dataset.modalities,
        memory_budget_gb=planning.memory_budget_gb or device_memory_gb(device),
        device_speed=partial(measure_device_speed, device=device),
        resolution=planning.resolution,
        target_spacing=planning.target_spacing,
        time_budget_minutes=planning.time_budget_minutes,
    )
    plan = planner.plan()
    if planning.plans_name:
        plan = replace(plan, plans_name=planning.plans_name)
    path = home / plan.plans_name / PLANS_FILE
    if path.is_file() and not overwrite:
        plan = _obeyed(path, plan)
    else:
        plan.save(path)
    save_json(dataset.content, home / DATASET_FILE)
    write_or_load_splits(home / SPLITS_FILE, _subjects(dataset))
    return plan, failed


def train(
    folders: Folders,
    dataset: int | str,
    fold: int | str,
    options: TrainingOptions,
    device: torch.device,
    processes: int,
    resume: bool = False,
    ranks: Ranks = ALONE,
) -> Path:
    """Train one fold of a modality cycle, choose its steps and strips and calibrate its maps on healthy held-out slices.

    Parameters
    ----------
    folders : preprocessed and results are used
    dataset : number or name
    fold : 0..4 or "all"
    options : the user's wishes
    device : to train on
    processes : workers that load and augment; 0 works in this process
    resume : go on from checkpoint_latest.pth
    ranks : the processes that train together, see :func:`mmccd_auto.training.ranks.join_ranks`

    Returns
    -------
    the fold's folder

    Raises
    ------
    MMCCDError
        If the dataset isn't preprocessed, or can't be trained on as asked.
    """
    if device.type == "cpu":
        keep_large_blocks()
    home = find_dataset(folders.preprocessed, dataset)
    preprocessed = home / options.plans_name
    if not (preprocessed / PLANS_FILE).is_file():
        raise MMCCDError(f"{preprocessed / PLANS_FILE} does not exist: run mmccd_plan_and_preprocess for {home.name} first.")
    plan = Plan.load(preprocessed / PLANS_FILE)
    configuration = options.configuration or plan.default_configuration
    model = folders.results / home.name / model_folder_name(options.trainer, options.plans_name, configuration)
    output = fold_folder(model, fold)
    trainer_class = find_trainer(options.trainer, [Path(folder) for folder in options.extensions])
    trainer = trainer_class(
        plan,
        configuration,
        fold,
        preprocessed,
        output,
        check_structure(load_json(home / SPLITS_FILE), str(home / SPLITS_FILE)),
        device=device,
        processes=processes,
        num_epochs=options.num_epochs,
        iterations_per_epoch=options.iterations_per_epoch,
        dataset_content=load_json(home / DATASET_FILE),
        ranks=ranks,
    )
    if trainer.judgements and str(fold) != "all" and ranks.leads:
        trainer.judge = find_judge(trainer.training_cases, plan, configuration, fold, preprocessed, device)
    logger.info(
        "training on %d cases, %s; validation on %d cases; output %s",
        len(trainer.training_cases),
        device,
        len(trainer.validation_cases),
        output,
    )
    trainer.train(resume)
    if not ranks.leads:
        return output
    # Prediction tells by it whether a scan is what the model knows.
    save_json(load_json(home / FINGERPRINT_FILE), model / FINGERPRINT_FILE)
    if options.choose_steps and trainer.cycle_class.masked:
        choose_steps(model, str(fold), preprocessed, device, extensions=options.extensions)
    calibrate_model(model, preprocessed, [str(fold)], device=device, extensions=options.extensions)
    return output


def predict(
    folders: Folders,
    input_path: str | Path,
    output: str | Path,
    options: PredictionOptions,
    device: torch.device,
    brain_masks: str | Path | None = None,
    save_cycle: bool = False,
    continue_prediction: bool = False,
) -> list[str]:
    """Predict anomaly maps for a file or a folder of scans.

    Parameters
    ----------
    folders : results is used, unless ``options.models`` names model folders
    input_path : a scan, a folder of scans, or DICOM (folder, zip archive, DICOMDIR)
    output : folder of the maps
    options : which model, and how
    device : to compute on
    brain_masks : folder of CASE.nii.gz
    save_cycle : also write the mean cycle, the signed error and the two halves of the score
    continue_prediction : keep what is finished

    Returns
    -------
    one sentence for each case that could not be predicted; empty when all went well

    Raises
    ------
    MMCCDError
        If there is no such model, several could be meant, or the input holds no case.
    """
    if device.type == "cpu":
        keep_large_blocks()
    predictor = load_predictor(folders, options, device)
    summary = predictor.predict_folder(
        input_path,
        output,
        brain_masks=brain_masks,
        save_cycle=save_cycle,
        continue_prediction=continue_prediction,
        export=options.export,
    )
    return summary.failed


def load_predictor(folders: Folders, options: PredictionOptions, device: torch.device) -> ScanPredictor:
    """The model that is meant, or the ensemble of several.

    Raises
    ------
    MMCCDError
        As :func:`mmccd_auto.model_choice.choose_models`, or if the models can't be loaded or don't fit together.
    """
    paths = [model.path for model in choose_models(folders, options)]
    loading = {
        "folds": options.folds,
        "preset": options.preset,
        "sampling_steps": options.sampling_steps,
        "strip_stride": options.strip_stride,
        "strips_per_pass": options.strips_per_pass,
        "precision": options.precision,
        "batch_size": options.batch_size,
        "score": options.score,
        "false_positive_rate": options.false_positive_rate,
        "threshold": options.threshold,
        "least_lesion_mm3": options.least_lesion_mm3,
        "device": device,
        "extensions": options.extensions,
        "brain_extraction": options.brain_extraction,
    }
    if len(paths) == 1:
        return Predictor.from_model_folder(paths[0], **loading)
    return Ensemble.from_model_folders(paths, **loading)


def evaluate(
    reference: str | Path,
    prediction: str | Path | Sequence[str | Path],
    images: str | Path | None = None,
    brain_masks: str | Path | None = None,
    output: str | Path | None = None,
    processes: int = 0,
    erosion_mm: float = 0.0,
    names: Sequence[str] | None = None,
) -> str:
    """Judge predicted maps against labels, beside the intensity baseline; returns a table to read.

    Parameters
    ----------
    prediction : a folder; or several, which are then compared on the same voxels
    names : of the folders, else each is called by its own name; given for one folder, it is compared with the baselines
    others : as in :func:`mmccd_auto.evaluation.evaluate.evaluate_folder`

    Raises
    ------
    MMCCDError
        As :func:`mmccd_auto.evaluation.evaluate.evaluate_folder`, :func:`mmccd_auto.evaluation.compare.name_predictions`
        and :func:`mmccd_auto.evaluation.compare.compare_folders` do.
    """
    folders = [prediction] if isinstance(prediction, str | Path) else list(prediction)
    if len(folders) == 1 and names is None:
        result = evaluate_folder(reference, folders[0], images, brain_masks, output, processes, erosion_mm)
        return method_table(result.methods, result.prevalence)
    methods = name_predictions(folders, names)
    return comparison_table(compare_folders(reference, methods, images, brain_masks, output, processes, erosion_mm))


def _verify(dataset: Dataset, processes: int) -> None:
    problems = verify_dataset(dataset, processes)
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise MMCCDError(f"{dataset.name} has {len(problems)} problems:\n{listed}")
    logger.info("%s: every file is as it should be.", dataset.name)


def _obeyed(path: Path, planned: Plan) -> Plan:
    """The plan that is there already, with a word on what would be planned otherwise now."""
    plan = Plan.load(path)
    left_out = {"cost", "why", "dataset_name", "plans_name"}
    differing = [
        entry.name
        for entry in fields(Plan)
        if entry.name not in left_out and getattr(plan, entry.name) != getattr(planned, entry.name)
    ]
    note = f"; would now be planned otherwise: {', '.join(differing)}" if differing else ""
    logger.info("%s is there and is obeyed (--overwrite plans anew)%s", path, note)
    return plan


def _subjects(dataset: Dataset) -> dict[str, str]:
    return {case: dataset.subject(case) for case in dataset.cases("Tr")}
