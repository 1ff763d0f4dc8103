"""Train a fold, choose its steps and strips, and calibrate it: what mmccd_train does."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.names import check_fold, check_path_name
from mmccd_auto.core.processes.memory import keep_large_blocks
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.core.wording import in_words
from mmccd_auto.datasets.dataset import DATASET_FILE, find_dataset
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.choice.choose_steps import PER_KIND, choose_steps
from mmccd_auto.inference.choice.fold_gain import describe_gain, fold_gain
from mmccd_auto.inference.choice.training_judge import find_judge
from mmccd_auto.inference.choice.trial import SyntheticTrial
from mmccd_auto.inference.held_out.calibrate import calibrate_model, is_calibrated
from mmccd_auto.plans.budget.report import compare_machines, tell_budget
from mmccd_auto.plans.budget.rungs import LARGE, SMALL
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, DatasetFingerprint
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.plans.rules import DEFAULT_PLANS
from mmccd_auto.plans.splits import SPLITS_FILE, load_splits
from mmccd_auto.preprocessing.slices import load_case_records
from mmccd_auto.preprocessing.subject_numbers import load_subject_numbers, without_names
from mmccd_auto.trained.checkpoint import CHECKPOINT_FINAL
from mmccd_auto.trained.model_folder import INFERENCE_FILE, ModelFolder, fold_folder, model_folder_name
from mmccd_auto.trained.query import ModelQuery
from mmccd_auto.trained.ready_models import READY, ready_name, ready_names
from mmccd_auto.trained.select import choose_models
from mmccd_auto.training.budget.speed import measure_machine
from mmccd_auto.training.options import TrainerOptions, TrainingMachine
from mmccd_auto.training.progress import tell_whether_longer
from mmccd_auto.training.start import load_start, refuse_seen_people
from mmccd_auto.training.trainer import Trainer
from mmccd_auto.training.trainers import DEFAULT_TRAINER, find_trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingOptions:
    """What a user may ask of a training; see the command's help for each.

    Attributes
    ----------
    trainer : class name; None: that of the model to start from, or else MMCCDTrainer
    start_from : an installed or ready model, or a model folder, whose weights the training starts from; "ready" is the ready
        model of the input modality
    """

    configuration: str | None = None
    trainer: str | None = None
    plans_name: str | None = None
    num_epochs: int | None = None
    iterations_per_epoch: int | None = None
    choose_steps: bool = True
    start_from: str | None = None
    extensions: tuple[str, ...] = ()

    @property
    def trainer_name(self) -> str:
        """Of a training from nothing."""
        return self.trainer or DEFAULT_TRAINER


def train(
    folders: Folders,
    dataset: int | str,
    fold: int | str,
    options: TrainingOptions,
    machine: TrainingMachine,
    overwrite: bool = False,
) -> Path:
    """Train one fold of a modality cycle, choose its steps and strips, calibrate its maps on healthy held-out slices.

    Also report what they find beyond a score without a network.

    Parameters
    ----------
    folders : preprocessed and results are used
    dataset : number or name
    fold : 0..4 or "all"
    options : the user's wishes
    machine : device, workers, and the processes that train together
    overwrite : start over; else a half-finished training of the same settings is continued, and a finished one kept

    Returns
    -------
    the fold's folder

    Raises
    ------
    MMCCDError
        If the dataset isn't preprocessed, it can't be trained on as asked, the fold's folder holds a training by other
        settings, or another run trains the fold at this moment.
    """
    if machine.device.type == "cpu":
        keep_large_blocks()
    _check_names(options, fold)
    home = find_dataset(folders.preprocessed, dataset, "preprocessed")
    trainer, plan = _make_trainer(folders, home, fold, options, machine)
    if not machine.ranks.leads:
        trainer.train(overwrite)
        return trainer.output
    preprocessed = trainer.preprocessed
    if trainer.judgements and str(fold) != "all":
        trainer.judge = find_judge(trainer.training_cases, plan, trainer.configuration, fold, preprocessed, machine.device)
    _describe_start(trainer, plan)
    # By it prediction knows whether a scan is what the model has seen. Read before the work, which may take days.
    fingerprint = _fingerprint_without_names(home)
    model = trainer.output.parent
    with folder_lock(trainer.output, f"the training of fold {fold}"):
        trainer.train(overwrite)
        logger.info("%s", tell_whether_longer(trainer.log.read()))
        fingerprint.save(model / FINGERPRINT_FILE)
        _choose_and_calibrate(model, str(fold), preprocessed, options, machine.device, trainer)
    return trainer.output


def _make_trainer(
    folders: Folders, home: Path, fold: int | str, options: TrainingOptions, machine: TrainingMachine
) -> tuple[Trainer, Plan]:
    """Make the trainer of a fold, ready to train, and read the plan that it starts from (a trainer may change its own).

    Parameters
    ----------
    home : $mmccd_preprocessed/DATASET
    """
    preprocessed = home / (options.plans_name or find_default_plans(home))
    if not (preprocessed / PLANS_FILE).is_file():
        raise MMCCDError(f"{preprocessed / PLANS_FILE} does not exist: run mmccd_plan_and_preprocess for {home.name} first.")
    plan = Plan.load(preprocessed / PLANS_FILE)
    configuration = options.configuration or plan.default_configuration
    modality = plan.configuration(configuration).input_modality
    start = None if options.start_from is None else _find_start(options.start_from, folders, modality)
    trainer_name = options.trainer or (options.trainer_name if start is None else start.trainer)
    model = folders.results / home.name / model_folder_name(trainer_name, preprocessed.name, configuration)
    trainer_class = find_trainer(trainer_name, [Path(folder) for folder in options.extensions])
    trainer = trainer_class(
        plan,
        configuration,
        fold,
        preprocessed,
        fold_folder(model, fold),
        load_splits(home / SPLITS_FILE),
        TrainerOptions(
            device=machine.device,
            processes=machine.processes,
            num_epochs=options.num_epochs,
            iterations_per_epoch=options.iterations_per_epoch,
            dataset_content=read_record(JsonObject, home / DATASET_FILE),
            ranks=machine.ranks,
        ),
    )
    if start is not None:
        trainer.start = load_start(start, plan, modality, fold)
        people = {case: record.subject for case, record in load_case_records(preprocessed).items()}
        refuse_seen_people(trainer.start, home, fold, people, trainer.validation_cases)
        logger.info("starts from %s", trainer.start.describe())
    return trainer, plan


def _check_names(options: TrainingOptions, fold: int | str) -> None:
    """Raise :class:`MMCCDError` where a name or the fold can't be part of a path."""
    for kind, value, option in (
        ("plans", options.plans_name, "-p"),
        ("trainer", options.trainer, "-tr"),
        ("configuration", options.configuration, "-c"),
    ):
        if value is not None:
            check_path_name(kind, value, option)
    check_fold(fold, "FOLD")


def _fingerprint_without_names(home: Path) -> DatasetFingerprint:
    """Read the dataset's fingerprint for the model folder, where people have numbers instead of names."""
    fingerprint = DatasetFingerprint.load(home / FINGERPRINT_FILE)
    people = {case: measured.subject for case, measured in fingerprint.cases.items()}
    return without_names(fingerprint, load_subject_numbers(home, people))


def _describe_start(trainer: Trainer, plan: Plan) -> None:
    """Log what is trained on, where, and how long it takes."""
    logger.info(
        "training on %d cases, %s; validation on %d cases; output %s",
        len(trainer.training_cases),
        trainer.device,
        len(trainer.validation_cases),
        trainer.output,
    )
    _tell_time(trainer, plan)


def _find_start(value: str, folders: Folders, modality: str) -> ModelFolder:
    """Find the model to start from; "ready" is the ready model of the input modality."""
    name = ready_name(modality) if value == READY and ready_name(modality) in ready_names() else value
    models = choose_models(folders, ModelQuery(models=(name,)))
    if len(models) > 1:
        raise MMCCDError(f"--from {value} is several models: name the folder of one of them.")
    return models[0]


def _tell_time(trainer: Trainer, plan: Plan) -> None:
    """Say how long a training takes, and whether its plan was made for quite another machine."""
    if plan.budget is None or not trainer.cycle_class.of_planned_size or (trainer.output / CHECKPOINT_FINAL).is_file():
        return
    trained, planned = (one.num_epochs * one.iterations_per_epoch for one in (trainer.settings, plan.training))
    logger.info("%s", tell_budget(plan, trained / planned))
    references = (SMALL,) if trainer.device.type == "cpu" else (SMALL, LARGE)
    advice = compare_machines(plan.budget, measure_machine(trainer.device, references))
    if advice:
        logger.warning("%s", advice)


def find_default_plans(home: Path) -> str:
    """Find the plans that are trained where none are named: mmccdPlans, else the only ones that are there.

    Parameters
    ----------
    home : $mmccd_preprocessed/DATASET

    Raises
    ------
    MMCCDError
        If there are several others.
    """
    found = sorted(path.parent.name for path in home.glob(f"*/{PLANS_FILE}"))
    if DEFAULT_PLANS in found or not found:
        return DEFAULT_PLANS
    if len(found) > 1:
        raise MMCCDError(f"{home} has several plans ({', '.join(found)}): name one with -p.")
    logger.info("plans: %s, the only ones of %s", found[0], home.name)
    return found[0]


def _choose_and_calibrate(
    model: Path, fold: str, preprocessed: Path, options: TrainingOptions, device: torch.device, trainer: Trainer
) -> None:
    """Choose steps and strips where strips are hidden, calibrate.

    Also measure what the networks add, as far as that isn't done for these weights, on as many slices as the plan says.
    """
    masked, extent = trainer.cycle_class.masked, trainer.plan.after_training
    choosing = masked and options.choose_steps and extent.trial_slices > 0
    if masked and not options.choose_steps and (model / INFERENCE_FILE).is_file():
        logger.warning(
            "%s was chosen before and is obeyed: remove it to predict with the planned steps.", model / INFERENCE_FILE
        )
    started = [time.monotonic()]
    if choosing:
        trial = SyntheticTrial(fold, preprocessed, device, PER_KIND, extent.trial_slices, options.extensions)
        choose_steps(model, trial, extent.trial_seeds)
    started.append(time.monotonic())
    if is_calibrated(ModelFolder(model), fold):
        logger.info("%s: the calibration fits and is kept (mmccd_calibrate makes it again)", fold_folder(model, fold))
    else:
        calibrate_model(
            model,
            preprocessed,
            [fold],
            device=device,
            max_slices=extent.calibration_slices,
            extensions=options.extensions,
        )
    started.append(time.monotonic())
    try:
        gain = fold_gain(model, fold, preprocessed, device, drawings=extent.trial_seeds, extensions=options.extensions)
        logger.info("%s", describe_gain(gain))
    except MMCCDError as error:
        # The training is finished and calibrated: it isn't to end by what only describes it.
        logger.warning("what the networks add to a score without any can't be measured: %s", error)
    ends = [*started[1:], time.monotonic()]
    parts = [in_words(end - start) for start, end in zip(started, ends, strict=True)]
    logger.info("after the training: steps and strips %s, calibration %s, gain over the control %s", *parts)
