"""mmccd_models: what is installed, what is trained, and what came with the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.scores.calibration import load_calibration
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, DatasetFingerprint
from mmccd_auto.trained.installed_models import UnpackedModel, installed_folder, installed_names
from mmccd_auto.trained.model_folder import CALIBRATION_FILE, ModelFolder, find_models
from mmccd_auto.trained.portable.model_card import load_card
from mmccd_auto.trained.ready_models import READY, find_ready, ready_modalities, ready_name

COLUMNS = ("name", "state", "input", "people", "calibrated on", "date", "MiB", "predict by")


@dataclass(frozen=True)
class ListedModel:
    """A model that can predict.

    Attributes
    ----------
    name : of an installed or ready model, or DATASET/TRAINER__PLANS__CYCLE of a trained one
    state : "installed", "trained" or "ready"
    input_modality : the scan that it examines
    people : trained on; None where it isn't known
    calibrated_on : healthy people, of several folds and models the fewest; 0 where it isn't calibrated
    date : day of the export or of the last training
    bytes : of what prediction needs
    problem : why it can't be used; empty where it can
    """

    name: str
    state: str
    input_modality: str = ""
    people: int | None = None
    calibrated_on: int = 0
    date: str = ""
    bytes: int = 0
    problem: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return a row of COLUMNS."""
        if self.problem:
            return (self.name, self.state, f"can't be used: {self.problem}")
        people = "not known" if self.people is None else str(self.people)
        dataset, _, model = self.name.partition("/")
        trainer, plans, cycle = model.split("__") if self.state == "trained" else ("", "", "")
        asked = f"-d {dataset} -c {cycle} -tr {trainer} -p {plans}" if model else f"--model {self.name}"
        calibrated = str(self.calibrated_on) if self.calibrated_on else "none"
        size = f"{self.bytes / 2**20:.1f}"
        return (self.name, self.state, self.input_modality, people, calibrated, self.date, size, asked)


def list_models(folders: Folders) -> list[ListedModel]:
    """List the installed models, the trained ones, then the ready ones, each by name; a broken one with what is wrong.

    Parameters
    ----------
    folders : results is used
    """
    installed = [_installed(folders.results, name) for name in installed_names(folders.results)]
    ready = [_ready(ready_name(modality)) for modality in ready_modalities()]
    return [*installed, *(_trained(model) for model in find_models(folders.results)), *ready]


def describe_models(models: Sequence[ListedModel], folders: Folders) -> str:
    """Write a table for the terminal, or what to do where there is none."""
    if not models:
        return (
            f"no model is installed or trained in {folders.results}: install one with mmccd_install_model, or train one "
            "with mmccd_train."
        )
    table = [COLUMNS, *(model.cells() for model in models)]
    whole = [row for row in table if len(row) == len(COLUMNS)]
    widths = [max(len(row[column]) for row in whole) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in table
    )


def _installed(results: Path, name: str) -> ListedModel:
    try:
        return _unpacked(name, "installed", UnpackedModel.load(installed_folder(results) / name))
    except MMCCDError as error:
        return ListedModel(name, "installed", problem=str(error))


def _ready(name: str) -> ListedModel:
    try:
        return _unpacked(name, READY, find_ready(name))
    except MMCCDError as error:
        return ListedModel(name, READY, problem=str(error))


def _unpacked(name: str, state: str, unpacked: UnpackedModel) -> ListedModel:
    cards = [load_card(model.path) for model in unpacked.models()]
    people = [card.people for card in cards if card.people is not None]
    return ListedModel(
        name,
        state,
        cards[0].input_modality,
        max(people, default=None),
        min(card.calibrated_on for card in cards),
        unpacked.manifest.made_on,
        sum(listed.bytes for listed in unpacked.manifest.files.values()),
    )


def _trained(model: ModelFolder) -> ListedModel:
    name = f"{model.path.parent.name}/{model.path.name}"
    try:
        calibrations = [load_calibration(model.fold(fold) / CALIBRATION_FILE) for fold in model.folds()]
        people = None
        if (model.path / FINGERPRINT_FILE).is_file():
            cases = DatasetFingerprint.load(model.path / FINGERPRINT_FILE).cases
            people = len({case.subject for case in cases.values()})
        states = [model.weights_file(fold).stat() for fold in model.folds()]
        modality = model.input_modality
    except (MMCCDError, OSError) as error:
        return ListedModel(name, "trained", problem=str(error))
    return ListedModel(
        name,
        "trained",
        modality,
        people,
        min(0 if one is None else len(one.subjects) for one in calibrations),
        datetime.fromtimestamp(max(state.st_mtime for state in states)).date().isoformat(),
        sum(state.st_size for state in states),
    )
