"""The whole job in one call: controls and patients in, a page to open out (mmccd_run)."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.progress import details_to_file
from mmccd_auto.core.readable_names import shown
from mmccd_auto.core.wording import counted, listed
from mmccd_auto.datasets.dataset import DATASET_FILE, load_dataset
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.datasets.health import HEALTHY
from mmccd_auto.importing.import_dataset import ImportOptions, import_dataset
from mmccd_auto.inference.options import ExportOptions, PredictionOptions
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.plans.splits import SPLITS_FILE, load_splits
from mmccd_auto.trained.installed_models import installed_names
from mmccd_auto.trained.model_folder import model_folder_name
from mmccd_auto.trained.ready_models import ready_names
from mmccd_auto.trained.select import choose_models
from mmccd_auto.training.options import TrainingMachine
from mmccd_auto.workflows.find_best_configuration import find_best_configuration
from mmccd_auto.workflows.plan_and_preprocess import PlanningOptions, PreparationOptions, plan_and_preprocess
from mmccd_auto.workflows.predict import predict
from mmccd_auto.workflows.running.default_models import name_default_models
from mmccd_auto.workflows.running.stages import FAILED, StageRecord, Stages, content_key
from mmccd_auto.workflows.running.training_budget import TrainingBudget, fit_training, of_fold, planning_for
from mmccd_auto.workflows.train import TrainingOptions, train

IMPORTED = "Dataset001_Controls"
LOG_FILE = "run.log"
MAPS_FOLDER = "maps"
REPORT_FILE, REPORT_FOLDER = "report.html", "report"
LISTED_FAILURES = 5
PAGE_THAT_LEADS_ON = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={target}"><title>Report</title></head>
<body><p><a href="{target}">Open the report</a></p></body></html>
"""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """What a user may ask of the whole job.

    Attributes
    ----------
    training_hours : for all folds together; None is the usual budget of one fold on the device
    modalities : to import of the controls, in this order
    series : pattern by modality, for DICOM
    backend : of the brain extraction
    overwrite : do stages again whose inputs or options have changed, and those after them
    planning, training : instead of what fits the device and the hours
    edit_plan : changes the plan before the slices are made; it must give the same for the same plan
    beside : trainers of models that are trained on the same folds and averaged with the first one in calibrated units
    choose : choose steps, strips, score and models by synthetic anomalies after the training
    save_control : also write the score without a network, to be judged beside the maps
    """

    training_hours: float | None = None
    modalities: tuple[str, ...] = ("FLAIR", "T1", "T2")
    series: tuple[tuple[str, str], ...] = ()
    backend: str = "auto"
    overwrite: bool = False
    planning: PlanningOptions | None = None
    training: TrainingOptions | None = None
    edit_plan: Callable[[Plan], Plan] | None = None
    beside: tuple[str, ...] = ()
    choose: bool = True
    save_control: bool = False


@dataclass(frozen=True)
class RunResult:
    """What became of the job.

    Attributes
    ----------
    table : a line for each stage: how long it took and what was decided
    failed : a sentence for each case that could not be used
    page : to open; None where the prediction wrote none
    """

    table: str
    failed: tuple[str, ...]
    page: Path | None


def run_all(
    patients: str | Path,
    output: str | Path,
    options: RunOptions,
    device: torch.device,
    processes: int,
    healthy: str | Path | None = None,
    model: str | None = None,
) -> RunResult:
    """Train on controls, or take a trained model, predict the patients and place the report; continue where it stopped.

    Parameters
    ----------
    patients : a scan, a folder of scans, or DICOM (folder, zip archive, DICOMDIR)
    output : folder of everything: raw/, preprocessed/, results/, maps/, report.html, run.json and run.log
    options : the user's wishes
    device : to train and predict on
    processes : workers; 0 works in this process
    healthy : scans of people without abnormality, as ``patients``, or a raw dataset in the layout of nnU-Net
    model : instead of ``healthy``: an installed or ready model, a model folder, a dataset's results folder, or the name of a
        dataset with trained models

    Raises
    ------
    MMCCDError
        If not exactly one of ``healthy`` and ``model`` is given, an input doesn't exist or lies around the output, the
        output holds a job with other inputs or options, or a stage fails as a whole.
    """
    patients, output = Path(patients), Path(output)
    if (healthy is None) == (model is None):
        raise MMCCDError("Give either --healthy CONTROLS, to train, or --model M, to predict with a trained model.")
    healthy = None if healthy is None else Path(healthy)
    for option, source in (("-i", patients), ("--healthy", healthy)):
        if source is not None:
            _check_source(option, source, output)
    with folder_lock(output, "a whole job"), details_to_file(output / LOG_FILE, "mmccd_auto.workflows"):
        job = _Job(patients, output, options, device, processes, Stages(output, options.overwrite), [])
        predicting = job.use_model(str(model)) if healthy is None else job.train_on(healthy)
        job.predict(predicting)
        page = place_page(output / MAPS_FOLDER, output)
        logger.info("every message of the job: %s", output / LOG_FILE)
    return RunResult(job.stages.table(), tuple(dict.fromkeys(job.failed)), page)


@dataclass(frozen=True)
class _Job:
    """One call of :func:`run_all`."""

    patients: Path
    output: Path
    options: RunOptions
    device: torch.device
    processes: int
    stages: Stages
    failed: list[str]

    @property
    def folders(self) -> Folders:
        return Folders(self.output / "raw", self.output / "preprocessed", self.output / "results")

    @property
    def planning(self) -> PlanningOptions:
        return self.options.planning or planning_for(self.options.training_hours, self.device)

    def use_model(self, model: str) -> tuple[Folders, PredictionOptions]:
        """Find the trained model that is meant."""
        path = Path(model)
        if not path.is_dir():
            # Models that were trained or installed before lie in the user's own folders, not below the output.
            folders = Folders.resolve(environment=os.environ)
            named = model in (*installed_names(folders.results), *ready_names())
            return folders, PredictionOptions(models=(model,)) if named else PredictionOptions(dataset=model)
        if (path / PLANS_FILE).is_file():
            return self.folders, PredictionOptions(models=(str(path),))
        return replace(self.folders, results=path.resolve().parent), PredictionOptions(dataset=path.resolve().name)

    def train_on(self, healthy: Path) -> tuple[Folders, PredictionOptions]:
        """Do everything up to trained models; give what predicts."""
        folders, name = self._import(healthy)
        plan = self._plan(folders, name)
        self._preprocess(folders, name, plan)
        training = self.options.training or TrainingOptions(plans_name=plan.plans_name)
        budget = self._train(folders, name, plan, training)
        for trainer in self.options.beside:
            # Of a length of its own.
            self._train_folds(folders, name, replace(training, trainer=trainer), budget.folds, f" by {trainer}")
        if self.options.choose:
            self._choose(folders, name, training, budget)
        configuration = training.configuration or plan.default_configuration
        results = folders.results / name
        names = [
            model_folder_name(one, plan.plans_name, configuration) for one in (training.trainer_name, *self.options.beside)
        ]
        if self.options.beside:
            # So that --model and mmccd_predict take all of them, too.
            name_default_models(results, plan, configuration, names)
        return folders, PredictionOptions(models=tuple(str(results / one) for one in names))

    def predict(self, predicting: tuple[Folders, PredictionOptions]) -> None:
        """Predict the patients; finished cases of an earlier run are kept."""
        folders, options = predicting
        options = replace(
            options,
            brain_extraction=self.options.backend,
            export=ExportOptions(series=dict(self.options.series)),
            continue_prediction=True,
            save_control=self.options.save_control,
        )
        maps = self.output / MAPS_FOLDER

        def work(settings: dict[str, Any]) -> str:
            failed = predict(folders, self.patients, maps, options, self.device)
            done = len(list(maps.glob("*_anomaly.nii.gz")))
            settings[FAILED] = failed
            without = f", {len(failed)} could not be predicted" if failed else ""
            return f"maps of {counted(done, 'case')}{without}: {MAPS_FOLDER}/"

        inputs = {
            "-i": content_key(self.patients),
            "--model": _model_key(folders, options),
            "--bet": self.options.backend,
            "--series": self.options.series,
        }
        self._do("predict", inputs, work, partial(remove_folder, maps, self.output))

    def _do(
        self, name: str, inputs: dict[str, Any], work: Callable[[dict[str, Any]], str], clear: Callable[[], None]
    ) -> StageRecord:
        """Do a stage, and note the cases that it could not use."""
        record = self.stages.run(name, inputs, work, clear)
        self.failed.extend(record.settings.get(FAILED, []))
        return record

    def _import(self, healthy: Path) -> tuple[Folders, str]:
        """Make a raw dataset of the controls, unless they are one."""
        options = self.options
        inputs = {
            "--healthy": content_key(healthy),
            "--modalities": options.modalities,
            "--series": options.series,
            "--bet": options.backend,
        }
        if (healthy / DATASET_FILE).is_file():
            self.stages.run("import", {"--healthy": inputs["--healthy"]}, lambda _: _described(healthy), self._clear)
            return replace(self.folders, raw=healthy.resolve().parent), healthy.resolve().name
        wishes = ImportOptions(
            health=HEALTHY, modalities=options.modalities, series=dict(options.series), backend=options.backend
        )

        def work(settings: dict[str, Any]) -> str:
            summary = import_dataset(healthy, self.folders.raw / IMPORTED, wishes, self.processes)
            for note in summary.notes:
                logging.getLogger("mmccd_auto.importing").warning("%s", note)
            if not summary.imported:
                raise MMCCDError(summary.failed[0] if summary.failed else "--healthy holds no case that can be imported.")
            settings[FAILED] = summary.failed
            return f"{_described(summary.dataset)}; {len(summary.failed)} left out"

        self._do("import", inputs, work, self._clear)
        return self.folders, IMPORTED

    def _plan(self, folders: Folders, name: str) -> Plan:
        planning = self.planning
        home = folders.preprocessed / name

        def work(settings: dict[str, Any]) -> str:
            before = {path.parent.name for path in home.glob(f"*/{PLANS_FILE}")}
            only_plan = PreparationOptions(preprocess=False)
            settings[FAILED] = plan_and_preprocess(folders, [name], planning, self.device, self.processes, only_plan)
            (plans_name,) = {path.parent.name for path in home.glob(f"*/{PLANS_FILE}")} - before or before
            plan = Plan.load(home / plans_name / PLANS_FILE)
            if self.options.edit_plan is not None:
                plan = self.options.edit_plan(plan)
                plan.save(home / plans_name / PLANS_FILE)
            settings["plans_name"] = plans_name
            rows, columns = plan.patch_size
            return (
                f"{plan.slice_axis} slices, {rows} x {columns} px of {plan.target_spacing:.3g} mm, "
                f"{plan.network.base_channels} channels, {plan.default_configuration}"
            )

        record = self._do("plan", asdict(planning), work, self._clear_trained)
        return Plan.load(home / record.settings["plans_name"] / PLANS_FILE)

    def _preprocess(self, folders: Folders, name: str, plan: Plan) -> None:
        # The plan is there and is obeyed: only the slices are made.
        planning = replace(self.planning, plans_name=plan.plans_name)

        def work(settings: dict[str, Any]) -> str:
            settings[FAILED] = plan_and_preprocess(folders, [name], planning, self.device, self.processes)
            made = len(list((folders.preprocessed / name / plan.plans_name).rglob("*.npz")))
            return counted(made, "slice file")

        self._do("preprocess", {}, work, self._clear_trained)

    def _train(self, folders: Folders, name: str, plan: Plan, training: TrainingOptions) -> TrainingBudget:
        """Train the folds that fit into the hours."""

        def decide(settings: dict[str, Any]) -> str:
            if self.options.training is None:
                splits = len(load_splits(folders.preprocessed / name / SPLITS_FILE))
                settings |= asdict(fit_training(self.options.training_hours, splits, self.device))
            else:
                settings |= asdict(TrainingBudget((0,), training.num_epochs, training.iterations_per_epoch))
            epochs = settings["num_epochs"] or plan.training.num_epochs
            iterations = settings["iterations_per_epoch"] or plan.training.iterations_per_epoch
            return f"{listed(map(str, settings['folds']), 'fold')}, {epochs} epochs of {iterations} iterations"

        wishes = {"--training_hours": self.options.training_hours, "trainer": asdict(training)}
        remove_models = partial(remove_folder, folders.results, self.output)
        record = self.stages.run("training length", wishes, decide, remove_models)
        budget = TrainingBudget(**{**record.settings, "folds": tuple(record.settings["folds"])})
        self._train_folds(folders, name, of_fold(training, budget), budget.folds)
        return budget

    def _train_folds(
        self, folders: Folders, name: str, training: TrainingOptions, folds: Sequence[int], by: str = ""
    ) -> None:
        """Train folds; what a training of another length has left went where the length was decided."""
        for fold in folds:

            def work(_: dict[str, Any], fold: int = fold) -> str:
                train(folders, name, fold, training, TrainingMachine(self.device, min(self.processes, 2)))
                return f"{training.trainer_name}, calibrated"

            self.stages.run(f"train fold {fold}{by}", {}, work)

    def _choose(self, folders: Folders, name: str, training: TrainingOptions, budget: TrainingBudget) -> None:
        """Choose how the first model predicts; one that learned from synthetic anomalies would win by them unduly."""
        wanted = PredictionOptions(trainer=training.trainer_name, plans_name=training.plans_name)

        def work(_: dict[str, Any]) -> str:
            found = find_best_configuration(folders, name, wanted, self.device)
            best = max(found.best.values(), key=lambda one: one.auprc)
            return f"AUPRC {best.auprc:.2f} on synthetic anomalies, {counted(best.sampling_steps, 'diffusion step')}"

        self.stages.run("choose", {"folds": budget.folds}, work)

    def _clear(self) -> None:
        """Remove the imported dataset and all that was made from it."""
        remove_folder(self.folders.raw / IMPORTED, self.output)
        self._clear_trained()

    def _clear_trained(self) -> None:
        for folder in (self.folders.preprocessed, self.folders.results):
            remove_folder(folder, self.output)


def place_page(maps: Path, output: Path) -> Path | None:
    """Place the report of a prediction in the output folder: a copy of a single page, else a page that leads to the index.

    Returns
    -------
    the page to open; None where there is no report
    """
    page, target = maps / REPORT_FILE, output / REPORT_FILE
    if not page.is_file():
        return None
    with atomic_path(target) as temporary:
        if (maps / REPORT_FOLDER).is_dir():
            temporary.write_text(PAGE_THAT_LEADS_ON.format(target=f"{MAPS_FOLDER}/{REPORT_FILE}"), encoding="utf-8")
        else:
            shutil.copyfile(page, temporary)
    return target


def _model_key(folders: Folders, options: PredictionOptions) -> list[str]:
    """Identify trained models by their weights, plans, choices and calibrations."""
    files = [
        path
        for model in choose_models(folders, options)
        for ending in ("*.json", "checkpoint_final.pth", "*.safetensors")
        for path in model.path.rglob(ending)
    ]
    return sorted(f"{path.name} {content_key(path)}" for path in files if not path.name.startswith("."))


def _described(dataset: Path) -> str:
    found = load_dataset(dataset)
    return f"{counted(len(found.cases('Tr')), 'control')}: {', '.join(found.modalities)}"


def _check_source(option: str, source: Path, output: Path) -> None:
    """Raise :class:`MMCCDError` where an input doesn't exist, or the results would lie in it."""
    if not source.exists():
        raise MMCCDError(f"{option}: {shown(source.name)} does not exist: give a folder, a zip archive or a file.")
    if source.resolve() in (output.resolve(), *output.resolve().parents):
        raise MMCCDError(f"{option} is the output folder, or holds it: give an output folder outside {shown(source.name)}.")
