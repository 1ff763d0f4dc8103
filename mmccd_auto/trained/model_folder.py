"""Model folders: TRAINER__PLANS__CONFIGURATION below $mmccd_results/DATASET, which can be handed on and used alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Len

from mmccd_auto.core.disk.hashing import file_sha256
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.names import SEPARATOR, ModalityName, ModelName, is_fold, name_problem
from mmccd_auto.core.records import OTHERS_ALLOWED, JsonObject, read_record
from mmccd_auto.datasets.dataset import DATASET_FILE
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.trained.checkpoint import (
    CHECKPOINT_FINAL,
    Checkpoint,
    load_checkpoint,
)
from mmccd_auto.trained.portable.portable_fold import WEIGHTS_FILE, load_description, load_portable_fold

BEST_FILE = "best_configuration.json"
FOLD_PREFIX = "fold_"
PEOPLE_FOLDER = "models"
FINISHED = (CHECKPOINT_FINAL, WEIGHTS_FILE)
HANDED_ON = ("name", "channel_names", "labels", "numTraining", "file_ending")
CALIBRATION_FILE = "calibration.json"
INFERENCE_FILE = "inference.json"
GAIN_FILE = "gain.json"
DATA_AND_NETWORK = (
    "modalities",
    "slice_axis",
    "target_spacing",
    "patch_size",
    "normalisation",
    "strip_width",
    "network",
    "diffusion",
)
OF_THE_SLICES = ("slice_axis", "target_spacing", "patch_size", "normalisation")


def model_folder_name(trainer: str, plans: str, configuration: str) -> str:
    """Write TRAINER__PLANS__CONFIGURATION."""
    return SEPARATOR.join((trainer, plans, configuration))


def _is_model_name(name: str) -> bool:
    parts = name.split(SEPARATOR)
    kinds = ("trainer", "plans", "configuration")
    return len(parts) == 3 and not any(name_problem(*pair) for pair in zip(kinds, parts, strict=True))


def fold_folder(model_folder: Path, fold: int | str) -> Path:
    """Return the folder of a fold: fold_0 .. fold_4 or fold_all."""
    return model_folder / f"{FOLD_PREFIX}{fold}"


def people_folder(preprocessed: Path, model_folder: Path, fold: int | str) -> Path:
    """Find where a fold's files are that show training people.

    Beside the preprocessed data, so that a model folder can be handed on as it is.
    """
    return Path(preprocessed).parent / PEOPLE_FOLDER / model_folder.resolve().name / f"{FOLD_PREFIX}{fold}"


def handed_on(dataset_content: dict[str, Any]) -> dict[str, Any]:
    """Return what a model folder's dataset.json holds.

    Of the dataset's own only what prediction and readers of the model need, and nothing of its people.
    """
    return {name: dataset_content[name] for name in HANDED_ON if name in dataset_content}


@dataclass(frozen=True)
class ModelFolder:
    """A folder named TRAINER__PLANS__CONFIGURATION that holds plans.json, dataset.json and the folds.

    Attributes
    ----------
    path : of the folder

    Raises
    ------
    MMCCDError
        If the folder doesn't exist, isn't named so, or holds no plans.json.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if not self.path.is_dir():
            raise MMCCDError(
                f"{self.path} is no folder: give a model folder, {model_folder_name('TRAINER', 'PLANS', 'CYCLE')}."
            )
        if not _is_model_name(self.path.resolve().name):
            raise MMCCDError(
                f"{self.path} is not a model folder: its name must be {model_folder_name('TRAINER', 'PLANS', 'CYCLE')}."
            )
        if not (self.path / PLANS_FILE).is_file():
            raise MMCCDError(f"{self.path} holds no {PLANS_FILE}: copy the whole model folder, or train again.")

    @property
    def _parts(self) -> list[str]:
        # resolve: the folder may be given as "."
        return self.path.resolve().name.split(SEPARATOR)

    @property
    def trainer(self) -> str:
        """Class name of the trainer."""
        return self._parts[0]

    @property
    def plans_name(self) -> str:
        """Name of the plans."""
        return self._parts[1]

    @property
    def configuration(self) -> str:
        """The modality cycle, "FLAIR-T1"."""
        return self._parts[2]

    @cached_property
    def plan(self) -> Plan:
        """Of plans.json."""
        return Plan.load(self.path / PLANS_FILE)

    @property
    def input_modality(self) -> str:
        """The scan that the model examines."""
        return self.plan.configuration(self.configuration).input_modality

    @cached_property
    def dataset(self) -> dict[str, Any]:
        """Content of dataset.json."""
        return read_record(JsonObject, self.path / DATASET_FILE)

    def folds(self) -> list[str]:
        """Return the folds whose training is finished: "0" .. "4", "all"."""
        files = [file for name in FINISHED for file in self.path.glob(f"{FOLD_PREFIX}*/{name}")]
        # A copy beside the fold, fold_0_old, is none of its own.
        return sorted(fold for fold in {file.parent.name[len(FOLD_PREFIX) :] for file in files} if is_fold(fold))

    def fold(self, fold: int | str) -> Path:
        """Return the folder of a fold."""
        return fold_folder(self.path, fold)

    def checkpoint(self, fold: int | str) -> Checkpoint:
        """Return the finished training of a fold.

        Raises
        ------
        MMCCDError
            If there is none, or its file is damaged.
        """
        path = self.weights_file(fold)
        if not path.is_file():
            there = ", ".join(self.folds()) or "none"
            raise MMCCDError(f"{path} does not exist: train fold {fold} to its end first (finished folds: {there}).")
        return load_portable_fold(path.parent) if path.name == WEIGHTS_FILE else load_checkpoint(path)

    def weights_file(self, fold: int | str) -> Path:
        """Return the file that holds a fold's weights.

        ``checkpoint_final.pth`` of a training, ``weights.safetensors`` of an export.
        """
        files = [self.fold(fold) / name for name in FINISHED]
        return next((file for file in files if file.is_file()), files[0])

    def weights_sha256(self, fold: int | str) -> str:
        """Return the hash by which calibrations, choices and maps know a fold's weights.

        That of checkpoint_final.pth. Of an export the one that it had where it was trained, so that what was calibrated and
        chosen there goes on to fit.
        """
        path = self.weights_file(fold)
        return load_description(path.parent).checkpoint_sha256 if path.name == WEIGHTS_FILE else file_sha256(path)


@dataclass(frozen=True)
class BestModels:
    """What prediction needs of best_configuration.json; the rest of it is for people.

    Attributes
    ----------
    models : by input modality the names of the model folders that predict it, several for an ensemble
    default_modality : one of them
    """

    __pydantic_config__: ClassVar[Any] = OTHERS_ALLOWED
    models: dict[ModalityName, Annotated[tuple[ModelName, ...], Len(1)]]
    default_modality: ModalityName

    def __post_init__(self) -> None:
        if self.default_modality not in self.models:
            raise MMCCDError(f"default_modality {self.default_modality} is none of models ({', '.join(self.models)})")


def load_best(path: str | Path) -> BestModels:
    """Read best_configuration.json; raises :class:`MMCCDError` naming the file and the entry that is wrong."""
    return read_record(BestModels, path, "run mmccd_find_best_configuration again, or remove the file")


def find_models(results: Path, dataset: str | None = None) -> list[ModelFolder]:
    """Find the model folders that have at least one finished fold, sorted by path.

    Parameters
    ----------
    results : $mmccd_results
    dataset : full name "DatasetXXX_Name"; None for every dataset
    """
    folders = [file.parent for file in sorted(Path(results).glob(f"{dataset or '*'}/*/{PLANS_FILE}"))]
    models = [ModelFolder(folder) for folder in folders if _is_model_name(folder.name)]
    return [model for model in models if model.folds()]


def best_models(models: Sequence[ModelFolder]) -> list[ModelFolder]:
    """Return what mmccd_find_best_configuration chose, one model or those of an ensemble.

    That of the one input modality that ``models`` have, else that of the default input modality. None where it wasn't run,
    where it chose others than ``models``, or where these are of several datasets.

    Raises
    ------
    MMCCDError
        If best_configuration.json is broken.
    """
    folders = {model.path.resolve().parent for model in models}
    path = folders.pop() / BEST_FILE
    if folders or not path.is_file():
        return []
    best = load_best(path)
    modalities = {model.input_modality for model in models}
    modality = modalities.pop() if len(modalities) == 1 else best.default_modality
    names = best.models.get(modality, ())
    by_name = {model.path.resolve().name: model for model in models}
    return [by_name[name] for name in names] if all(name in by_name for name in names) else []


def plan_differences(plan: Plan, other: Plan, names: tuple[str, ...] = DATA_AND_NETWORK) -> list[str]:
    """Select those of the entries ``names`` in which two plans differ, as "NAME: VALUE against VALUE"."""
    pairs = [(name, getattr(plan, name), getattr(other, name)) for name in names]
    return [f"{name}: {one} against {two}" for name, one, two in pairs if one != two]


def preprocessed_folder(folders: Folders, model: ModelFolder) -> Path:
    """Find where the slices are that a model was trained on.

    Raises
    ------
    MMCCDError
        If they aren't there, or were made again by another plan.
    """
    path = folders.preprocessed / model.plan.dataset_name / model.plans_name
    if not path.is_dir():
        raise MMCCDError(f"{path} does not exist: preprocess {model.plan.dataset_name} first, or say where it is.")
    if (path / PLANS_FILE).is_file():
        differences = plan_differences(model.plan, Plan.load(path / PLANS_FILE), OF_THE_SLICES)
        if differences:
            raise MMCCDError(
                f"{path} holds slices of another plan than {model.path} was trained by ({'; '.join(differences)}): "
                "preprocess with the model's plan, or train again."
            )
    return path
