"""The cycle's errors on healthy slices that a fold was not trained on: all that calibration and choices rest on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Len

from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path, save_json
from mmccd_auto.core.names import CaseName
from mmccd_auto.core.progress import Progress
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.inference.held_out.healthy_slices import (
    choose_healthy_slices,
    find_records,
)
from mmccd_auto.inference.held_out.scans import HeldOutScans
from mmccd_auto.inference.maps.engine import SliceMaps
from mmccd_auto.inference.maps.fold_model import load_fold
from mmccd_auto.inference.maps.settings import InferenceSettings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import MAX_SLICES
from mmccd_auto.inference.scores.calibration import TRAINED_ON, SliceSource
from mmccd_auto.inference.scores.further import Subset, subset_name, subsets_of
from mmccd_auto.inference.scores.score_units import ScoreUnits
from mmccd_auto.preprocessing.npz_files import BROKEN_ARRAYS
from mmccd_auto.preprocessing.preprocess_case import LARGEST_SPACING_MM
from mmccd_auto.preprocessing.slices import CaseRecord
from mmccd_auto.preprocessing.subject_numbers import trained_on
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import ModelFolder, people_folder

VALIDATION_FOLDER = "validation"
VALIDATION_FILE = "validation.json"
REMEDY = "run mmccd_calibrate again"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationRecord:
    """validation.json: how the maps of a fold's validation folder were made.

    Attributes
    ----------
    settings : of the inference
    source : "healthy validation slices" or "healthy training slices"
    weights_sha256 : of the checkpoint
    cases : case -> subject
    first_look : by which the second fit of the scans left tissue out; None: one fit made the maps
    further : by the name of a subset of further modalities, the cases of which there are also maps that were made with it
    """

    settings: JsonObject
    source: SliceSource
    weights_sha256: str
    cases: Annotated[dict[CaseName, str], Len(1)]
    first_look: ScoreUnits | None = None
    further: dict[str, tuple[CaseName, ...]] = field(default_factory=dict)

    def made_by(self, settings: InferenceSettings) -> bool:
        """Check whether these settings made the maps; earlier versions knew one fit only, and didn't say so."""
        return {"fits": 1} | self.settings == settings.to_json()


def make_validation_maps(
    model: ModelFolder,
    fold: str,
    preprocessed: Path,
    settings: InferenceSettings,
    device: torch.device,
    max_slices: int = MAX_SLICES,
    extensions: Sequence[str | Path] = (),
) -> ValidationRecord:
    """Send healthy held-out slices through the cycle and keep its errors in validation/CASE.npz of its people's folder.

    Their scans are fitted as often as those that are predicted. Where there are no such slices (fold ``all``, or no healthy
    validation slice) training slices are taken instead, and said to be.

    Parameters
    ----------
    model, fold : trained
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET, with splits_final.json beside it
    settings : by which scans will be predicted, too
    device : to compute on
    max_slices : at most so many, see :func:`choose_healthy_slices`
    extensions : folders with the user's own trainers

    Raises
    ------
    MMCCDError
        If the fold isn't trained, there is no healthy slice at all, or the files can't be written.
    """
    loaded = load_fold(model, fold, device, extensions)
    modality = model.input_modality
    records, source = find_records(
        Path(preprocessed), loaded.fold, modality, trained_on(loaded.record, Path(preprocessed).parent)
    )
    if source == TRAINED_ON:
        logger.warning(
            "fold %s has no healthy slices that it was not trained on: its scores are calibrated on training slices, and "
            "new scans may have more false alarms than promised.",
            loaded.fold,
        )
    chosen = choose_healthy_slices(records, max_slices)
    subsets = subsets_of(loaded.cycle.further)
    folder = validation_folder(model, loaded.fold, preprocessed)
    remove_folder(folder, Path(preprocessed).parent)
    scans = HeldOutScans(loaded, model.plan, modality, Path(preprocessed), records, settings, device)
    looked_at = scans.slices_to_look_at(list(chosen)) if settings.fits > 1 else 0
    with Progress(looked_at + sum(map(len, chosen.values())), "calibration on healthy slices", "slice") as progress:
        first_look = None
        if settings.fits > 1:
            first_look = scans.look(chosen, chosen_plan(model).configuration(model.configuration).score, progress)
        for case, indices in chosen.items():
            for subset, maps in scans.maps(case, indices, first_look, subsets).items():
                _write(_maps_file(folder, case, subset_name(subset)), maps)
            progress.update(len(indices))
    people = {case: records[case].subject for case in chosen}
    further = {subset_name(subset): _having(records, chosen, subset) for subset in subsets}
    record = ValidationRecord(settings.to_json(), source, loaded.weights_sha256, people, first_look, further)
    # Last: it says that the folder is complete. Then what an earlier version left in the model's folder goes.
    save_json(asdict(record), folder / VALIDATION_FILE)
    remove_folder(model.fold(loaded.fold) / VALIDATION_FOLDER, model.fold(loaded.fold))
    return record


def _having(records: Mapping[str, CaseRecord], cases: Iterable[str], subset: Subset) -> tuple[str, ...]:
    """Select the cases that have all modalities of a subset."""
    return tuple(case for case in cases if set(subset) <= set(records[case].modalities))


def validation_folder(model: ModelFolder, fold: str, preprocessed: str | Path) -> Path:
    """Find where the maps of a fold's held-out people are, beside the preprocessed data.

    They show brains, and model folders are handed on.
    """
    return people_folder(Path(preprocessed), model.path, fold) / VALIDATION_FOLDER


def load_validation_record(model: ModelFolder, fold: str, preprocessed: str | Path) -> ValidationRecord | None:
    """Load validation.json of a fold; None where there is none.

    Parameters
    ----------
    model, fold : trained
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET
    """
    path = _standing_folder(model, fold, preprocessed) / VALIDATION_FILE
    return read_record(ValidationRecord, path, REMEDY) if path.is_file() else None


def load_validation_maps(
    model: ModelFolder, fold: str, record: ValidationRecord, preprocessed: str | Path, subset: str = ""
) -> list[CaseMaps]:
    """Load the maps of a fold's held-out people, by the parameters of :func:`load_validation_record` and what it gave.

    Made by the input modality alone, or with a subset of further ones (its name) of those people who have it.

    Raises
    ------
    MMCCDError
        If a file is missing or broken.
    """
    folder = _standing_folder(model, fold, preprocessed)
    cases = (
        record.cases
        if not subset
        else {case: record.cases[case] for case in record.further.get(subset, ()) if case in record.cases}
    )
    return [_read(_maps_file(folder, case, subset), case, subject) for case, subject in cases.items()]


def count_validation_slices(model: ModelFolder, fold: str, preprocessed: str | Path) -> int:
    """Count on how many healthy slices of a fold the calibration rests; 0 where there are no maps.

    Raises
    ------
    MMCCDError
        If a file is missing or broken.
    """
    record = load_validation_record(model, fold, preprocessed)
    if record is None:
        return 0
    return sum(len(case.indices) for case in load_validation_maps(model, fold, record, preprocessed))


def _standing_folder(model: ModelFolder, fold: str, preprocessed: str | Path) -> Path:
    """Return the folder that holds the maps: earlier versions put them into the fold's own."""
    folder, before = validation_folder(model, fold, preprocessed), model.fold(fold) / VALIDATION_FOLDER
    return before if not (folder / VALIDATION_FILE).is_file() and (before / VALIDATION_FILE).is_file() else folder


def _maps_file(folder: Path, case: str, subset: str) -> Path:
    return folder / subset / f"{case}.npz" if subset else folder / f"{case}.npz"


def _write(path: Path, case: CaseMaps) -> None:
    maps = {name: getattr(case.maps, name).astype(np.float16) for name in ("squared", "signed", "cycle", "coverage")}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            **maps,
            brain=case.brain,
            indices=np.array(case.indices),
            spacing=np.array(case.spacing),
            network_evaluations=np.array(case.maps.network_evaluations),
        )


def _read(path: Path, case: str, subject: str) -> CaseMaps:
    try:
        with np.load(path, allow_pickle=False) as content:
            squared, signed, cycle, coverage = (
                content[name].astype(np.float32) for name in ("squared", "signed", "cycle", "coverage")
            )
            maps = SliceMaps(squared, signed, cycle, coverage, int(content["network_evaluations"]))
            indices = tuple(int(index) for index in content["indices"])
            spacing = tuple(float(edge) for edge in content["spacing"])
            brain = content["brain"]
    except BROKEN_ARRAYS as error:
        raise MMCCDError(f"{path} can't be read ({error}): {REMEDY}.") from error
    arrays = {name: getattr(maps, name) for name in ("squared", "signed", "cycle", "coverage")}
    wrong = [name for name, array in arrays.items() if array.shape != brain.shape or not np.isfinite(array).all()]
    if wrong or brain.dtype != bool or brain.ndim != 3 or not brain.any() or len(indices) != len(brain):
        told = f"{', '.join(wrong)} is of another size or not finite" if wrong else "brain or indices aren't of these slices"
        raise MMCCDError(f"{path} can't be used ({told}): {REMEDY}.")
    if len(spacing) != 3 or not all(0 < edge < LARGEST_SPACING_MM for edge in spacing):
        raise MMCCDError(f"{path} can't be used (its spacing is {spacing}): {REMEDY}.")
    return CaseMaps(case, subject, indices, spacing, maps, brain)
