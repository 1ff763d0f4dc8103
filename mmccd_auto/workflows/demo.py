"""The whole pipeline on simulated brains: what mmccd_demo does."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.wording import in_words
from mmccd_auto.datasets.dataset import Dataset, load_dataset
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.evaluation.baselines import CONTROL, INTENSITY, SMOOTHED_INTENSITY
from mmccd_auto.evaluation.evaluate import EvaluationResult, evaluate_folder
from mmccd_auto.evaluation.table import method_table
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.phantom.dataset import PhantomPeople, write_phantom_dataset
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.reporting.overview import OverviewCase, draw_overview
from mmccd_auto.trained.model_folder import model_folder_name
from mmccd_auto.trained.ready_models import ready_modalities, ready_name
from mmccd_auto.training.options import TrainingMachine
from mmccd_auto.workflows.plan_and_preprocess import PlanningOptions
from mmccd_auto.workflows.predict import predict
from mmccd_auto.workflows.run import MAPS_FOLDER, RunOptions, run_all
from mmccd_auto.workflows.running.default_models import name_default_models
from mmccd_auto.workflows.train import TrainingOptions, train

logger = logging.getLogger(__name__)

DATASET_NUMBER = 900
CONFIGURATION = "FLAIR-T1"
METHOD, COMPARED, UNTRAINED = "mmccd", "cyclic_unet", "ready"
TRAINERS = {METHOD: "MMCCDTrainerShort", COMPARED: "CyclicUNetTrainerShort"}
REPORTED = ("auprc", "auroc", "best_dice")
OVERVIEW_FILE = "overview.png"
RESULTS_FILE = "results.json"
PLANNING = PlanningOptions(planner="MMCCDPlannerSmall", resolution="lowres", target_spacing=4.0)


@dataclass(frozen=True)
class DemoSettings:
    """How long and how large the demo is; the defaults end within minutes on two CPU cores.

    Attributes
    ----------
    training_subjects, test_subjects : simulated people
    base_channels, dropout : of the U-Nets
    num_epochs, iterations_per_epoch, batch_size : of both trainings
    sampling_steps : diffusion steps per strip at prediction
    """

    training_subjects: int = 10
    test_subjects: int = 6
    base_channels: int = 12
    dropout: float = 0.0
    num_epochs: int = 8
    iterations_per_epoch: int = 40
    batch_size: int = 8
    sampling_steps: int = 1


def run_demo(
    output: str | Path,
    seed: int = 0,
    device: torch.device | None = None,
    processes: int = 0,
    settings: DemoSettings | None = None,
) -> str:
    """Simulate brains, do what mmccd_run does on them, train Cyclic U-Net to compare with, and evaluate both.

    Parameters
    ----------
    output : new or empty folder; it gets raw/, preprocessed/, results/, maps/, maps_cyclic_unet/, report.html, run.json,
        run.log, overview.png and results.json; maps_ready/ where the package holds a ready model
    seed : of the simulation and the training
    device : None takes the CPU
    processes : workers; 0 works in this process
    settings : None takes the defaults

    Returns
    -------
    the stages, a table of the methods side by side, and the page to open

    Raises
    ------
    MMCCDError
        If the folder isn't empty.
    """
    output, device, settings = Path(output), device or torch.device("cpu"), settings or DemoSettings()
    if output.is_dir() and any(output.iterdir()):
        raise MMCCDError(f"{output} is not empty: give the demo a new folder.")
    folders = Folders(output / "raw", output / "preprocessed", output / "results")
    dataset = _simulate(folders, settings, seed, processes)
    ready = _predict_by_ready_model(folders, dataset, output / f"{MAPS_FOLDER}_{UNTRAINED}", device)
    job = RunOptions(
        planning=PLANNING,
        training=TrainingOptions(CONFIGURATION, TRAINERS[METHOD]),
        edit_plan=partial(_shortened, settings=settings, seed=seed),
        choose=False,
        save_control=True,
    )
    done = run_all(dataset.images_folder("Ts"), output, job, device, processes, healthy=dataset.folder)
    _stop_at(done.failed)
    (plan_file,) = (folders.preprocessed / dataset.name).glob(f"*/{PLANS_FILE}")
    plan = Plan.load(plan_file)
    maps = {METHOD: output / MAPS_FOLDER, COMPARED: output / f"{MAPS_FOLDER}_{COMPARED}", **ready}
    _train_and_predict_compared(folders, dataset, plan, maps[COMPARED], device)
    # The modality cycle, which the demo is about, predicts where nobody asks for a model.
    model = model_folder_name(TRAINERS[METHOD], plan.plans_name, CONFIGURATION)
    name_default_models(folders.results / dataset.name, plan, CONFIGURATION, [model])
    evaluations = {method: evaluate_folder(dataset.labels_folder("Ts"), folder) for method, folder in maps.items()}
    _draw_overview(dataset, maps, plan.configuration(CONFIGURATION).input_modality, output / OVERVIEW_FILE)
    return f"{done.table}\n\n{_report(evaluations, output / RESULTS_FILE)}\n\nopen {done.page}"


def _simulate(folders: Folders, settings: DemoSettings, seed: int, processes: int) -> Dataset:
    """Simulate the people to train on and to test with."""
    folder = write_phantom_dataset(
        folders.raw,
        people=PhantomPeople(training_subjects=settings.training_subjects, test_subjects=settings.test_subjects, seed=seed),
        number=DATASET_NUMBER,
        processes=processes,
    )
    return load_dataset(folder)


def _draw_overview(dataset: Dataset, maps: Mapping[str, Path], modality: str, path: Path) -> None:
    """Draw all test cases with the maps of each method (method -> folder) side by side."""
    rows = [
        OverviewCase(
            case,
            dataset.channel_file(case, modality, "Ts"),
            label,
            {method: folder / f"{case}_anomaly.nii.gz" for method, folder in maps.items()},
        )
        for case in dataset.cases("Ts")
        if (label := dataset.label_file(case, "Ts")) is not None
    ]
    draw_overview(rows, path, modality)


def _predict_by_ready_model(folders: Folders, dataset: Dataset, maps: Path, device: torch.device) -> dict[str, Path]:
    """Predict the test subjects before anything is trained, where the package holds a ready model of their modality."""
    modality = CONFIGURATION.split("-")[0]
    if modality not in ready_modalities():
        return {}
    started = time.monotonic()
    model = PredictionOptions(models=(ready_name(modality),), report=False)
    _stop_at(predict(folders, dataset.images_folder("Ts"), maps, model, device))
    seconds = in_words(time.monotonic() - started)
    logger.info("%s, before anything is trained: the maps of the ready model, in %s", maps, seconds)
    return {UNTRAINED: maps}


def _train_and_predict_compared(folders: Folders, dataset: Dataset, plan: Plan, maps: Path, device: torch.device) -> None:
    """Train fold 0 with the method that the demo compares with, and predict the test subjects."""
    trainer = TRAINERS[COMPARED]
    logger.info("%s, to compare with ...", trainer)
    options = TrainingOptions(CONFIGURATION, trainer, plan.plans_name)
    train(folders, DATASET_NUMBER, 0, options, TrainingMachine(device))
    model = PredictionOptions(dataset=str(DATASET_NUMBER), trainer=trainer, report=False)
    _stop_at(predict(folders, dataset.images_folder("Ts"), maps, model, device))


def _shortened(plan: Plan, settings: DemoSettings, seed: int) -> Plan:
    """Return the plan as a person in a hurry would edit it: a small network, trained for minutes."""
    reason = "set by the demo, which has minutes on a CPU"
    configurations = {
        name: replace(configuration, sampling_steps=settings.sampling_steps, strip_stride=plan.strip_width)
        for name, configuration in plan.configurations.items()
    }
    changed = ("network.base_channels", "network.dropout", "training.batch_size", "training")
    return replace(
        plan,
        network=replace(plan.network, base_channels=settings.base_channels, dropout=settings.dropout),
        training=replace(
            plan.training,
            batch_size=settings.batch_size,
            num_epochs=settings.num_epochs,
            iterations_per_epoch=settings.iterations_per_epoch,
            seed=seed,
        ),
        configurations=configurations,
        cost={},
        why=plan.why
        | dict.fromkeys(changed, reason)
        | {
            f"configurations.{name}.{entry}": reason
            for name in configurations
            for entry in ("sampling_steps", "strip_stride")
        },
    )


def _report(evaluations: Mapping[str, EvaluationResult], path: Path) -> str:
    """Write results.json and give the table."""
    any_evaluation = next(iter(evaluations.values()))
    methods = {name: evaluation.methods["anomaly_map"] for name, evaluation in evaluations.items()}
    methods |= {name: any_evaluation.methods[name] for name in (CONTROL, INTENSITY, SMOOTHED_INTENSITY)}
    save_json(
        {
            "methods": {name: {figure: method.pooled[figure] for figure in REPORTED} for name, method in methods.items()},
            "prevalence": any_evaluation.prevalence,
        },
        path,
    )
    return method_table(methods, any_evaluation.prevalence)


def _stop_at(failed: Sequence[str]) -> None:
    if failed:
        raise MMCCDError(failed[0])
