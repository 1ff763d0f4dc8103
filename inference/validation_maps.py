"""The cycle's errors on healthy slices that a fold was not trained on: all that calibration and choices rest on."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Len

from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path, save_json
from mmccd_auto.core.names import CaseName
from mmccd_auto.core.progress import Progress
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.inference.case_maps import CaseMaps
from mmccd_auto.inference.engine import SliceMaps, anomaly_maps
from mmccd_auto.inference.fold_models import FoldModel, load_fold
from mmccd_auto.inference.held_out_scans import HeldOutScans
from mmccd_auto.inference.options import MAX_SLICES
from mmccd_auto.inference.score_units import ScoreUnits
from mmccd_auto.inference.settings import InferenceSettings
from mmccd_auto.plans.plan import Plan
from mmccd_auto.plans.splits import SPLITS_FILE, Split, cases_of_fold, load_splits
from mmccd_auto.preprocessing.npz_files import BROKEN_ARRAYS
from mmccd_auto.preprocessing.preprocess_case import LARGEST_SPACING_MM
from mmccd_auto.preprocessing.slices import CaseRecord, load_case_records, read_slices
from mmccd_auto.preprocessing.subject_numbers import trained_on
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import ModelFolder, people_folder

VALIDATION_FOLDER = "validation"
VALIDATION_FILE = "validation.json"
HELD_OUT, TRAINED_ON = "healthy validation slices", "healthy training slices"
SliceSource = Literal["healthy validation slices", "healthy training slices"]
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
    """

    settings: JsonObject
    source: SliceSource
    weights_sha256: str
    cases: Annotated[dict[CaseName, str], Len(1)]
    first_look: ScoreUnits | None = None

    def made_by(self, settings: InferenceSettings) -> bool:
        """Whether these settings made the maps; earlier versions knew one fit only, and didn't say so."""
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

    Their scans are fitted as often as those that are predicted.

    Where there are no such slices (fold ``all``, or no healthy validation slice) training slices are taken instead, and
    said to be.

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
    folder = validation_folder(model, loaded.fold, preprocessed)
    remove_folder(folder, Path(preprocessed).parent)
    scans = HeldOutScans(loaded, model.plan, modality, Path(preprocessed), records, settings, device)
    looked_at = scans.slices_to_look_at(list(chosen)) if settings.fits > 1 else 0
    with Progress(looked_at + sum(map(len, chosen.values())), "calibration on healthy slices", "slice") as progress:
        first_look = None
        if settings.fits > 1:
            first_look = scans.look(chosen, chosen_plan(model).configuration(model.configuration).score, progress)
        for case, indices in chosen.items():
            _write(folder / f"{case}.npz", scans.maps(case, indices, first_look))
            progress.update(len(indices))
    people = {case: records[case].subject for case in chosen}
    record = ValidationRecord(settings.to_json(), source, loaded.weights_sha256, people, first_look)
    # Last: it says that the folder is complete.
    save_json(asdict(record), folder / VALIDATION_FILE)
    # What an earlier version left in the model's folder.
    remove_folder(model.fold(loaded.fold) / VALIDATION_FOLDER, model.fold(loaded.fold))
    return record


def healthy_maps(
    loaded: FoldModel,
    plan: Plan,
    modality: str,
    preprocessed: Path,
    record: CaseRecord,
    indices: Sequence[int],
    settings: InferenceSettings,
    device: torch.device,
    description: str | None = None,
) -> CaseMaps:
    """The maps of some slices of a preprocessed case."""
    image, brain, _ = read_slices(preprocessed, record, indices)
    channel = record.modalities.index(modality)
    maps = anomaly_maps(
        loaded.cycle,
        image[channel],
        brain,
        settings,
        record.case,
        device,
        plan.patch_size,
        slice_indices=indices,
        description=description,
    )
    return CaseMaps(record.case, record.subject, tuple(indices), record.geometry.slice_spacing, maps, brain)


def validation_folder(model: ModelFolder, fold: str, preprocessed: str | Path) -> Path:
    """Where the maps of a fold's held-out people are, beside the preprocessed data: they show brains, and model folders are
    handed on."""
    return people_folder(Path(preprocessed), model.path, fold) / VALIDATION_FOLDER


def load_validation_record(model: ModelFolder, fold: str, preprocessed: str | Path) -> ValidationRecord | None:
    """validation.json of a fold; None where there is none.

    Parameters
    ----------
    model, fold : trained
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET
    """
    path = _standing_folder(model, fold, preprocessed) / VALIDATION_FILE
    return read_record(ValidationRecord, path, REMEDY) if path.is_file() else None


def load_validation_maps(
    model: ModelFolder, fold: str, record: ValidationRecord, preprocessed: str | Path
) -> list[CaseMaps]:
    """The maps of a fold's held-out people, by the parameters of :func:`load_validation_record` and what it gave.

    Raises
    ------
    MMCCDError
        If a file is missing or broken.
    """
    folder = _standing_folder(model, fold, preprocessed)
    return [_read(folder / f"{case}.npz", case, subject) for case, subject in record.cases.items()]


def count_validation_slices(model: ModelFolder, fold: str, preprocessed: str | Path) -> int:
    """On how many healthy slices of a fold the calibration rests; 0 where there are no maps.

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
    """The folder that holds the maps: earlier versions put them into the fold's own."""
    folder, before = validation_folder(model, fold, preprocessed), model.fold(fold) / VALIDATION_FOLDER
    return before if not (folder / VALIDATION_FILE).is_file() and (before / VALIDATION_FILE).is_file() else folder


def choose_healthy_slices(records: Mapping[str, CaseRecord], max_slices: int) -> dict[str, list[int]]:
    """Healthy slices by case, about equally many of each, as long runs of neighbours around the middle of the brain's run.

    Neighbours, because scores are smoothed across slices and lesions are larger than one.

    Parameters
    ----------
    records : by case
    max_slices : altogether; where there are more cases than that, cases are taken evenly from their list

    Raises
    ------
    MMCCDError
        If ``max_slices`` is below 1.
    """
    if max_slices < 1:
        raise MMCCDError(f"{max_slices} healthy slices are too few: give at least 1.")
    healthy = {case: [item.index for item in record.slices if item.healthy] for case, record in sorted(records.items())}
    healthy = {case: indices for case, indices in healthy.items() if indices}
    cases = [list(healthy)[place] for place in _spread(len(healthy), max_slices)]
    quota = dict.fromkeys(cases, 0)
    left = min(max_slices, sum(len(healthy[case]) for case in cases))
    while left:
        for case in cases:
            if left and quota[case] < len(healthy[case]):
                quota[case] += 1
                left -= 1
    return {case: _window(healthy[case], quota[case]) for case in cases}


def _window(indices: list[int], count: int) -> list[int]:
    """``count`` of ``indices`` that follow each other, half from the lower and half from the upper part.

    Two windows rather than one, because the error differs between the base of the brain and its top.
    """
    if count >= len(indices):
        return indices
    if count < 8:
        return [indices[place] for place in _spread(len(indices), count)]
    lower, upper = indices[: len(indices) // 2], indices[len(indices) // 2 :]
    first = min(count // 2, len(lower))
    second = count - first
    return [*_middle(lower, first), *_middle(upper, second)]


def _middle(indices: list[int], count: int) -> list[int]:
    start = (len(indices) - count) // 2
    return indices[start : start + count]


def _spread(length: int, count: int) -> list[int]:
    """``count`` places of ``length``, in the middles of equal parts."""
    count = min(count, length)
    return [int((part + 0.5) * length / count) for part in range(count)]


def find_records(
    preprocessed: Path, fold: str, modality: str, trained_on: Collection[str] = ()
) -> tuple[dict[str, CaseRecord], str]:
    """The preprocessed cases to calibrate a fold on, and what they are to it: HELD_OUT or TRAINED_ON.

    Parameters
    ----------
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET, with splits_final.json beside it
    fold : "0" .. "4" or "all"
    modality : that the cases must have
    trained_on : cases that the fold has seen; they and others of the same people are not held out, whatever the splits say

    Raises
    ------
    MMCCDError
        If there is no healthy slice, or splits_final.json is missing or broken.
    """
    everything = load_case_records(preprocessed)
    records = {case: record for case, record in everything.items() if modality in record.modalities}
    split = cases_of_fold([] if fold == "all" else _load_splits(preprocessed), list(records), fold)
    people = {everything[case].subject for case in trained_on if case in everything}
    held_out = {case: records[case] for case in split["val"] if case in records}
    if fold != "all" and (known := sorted(case for case, record in held_out.items() if record.subject in people)):
        logger.warning(
            "fold %s was trained on %s, which %s holds out now: they are not taken for held-out cases.",
            fold,
            ", ".join(known),
            preprocessed.parent / SPLITS_FILE,
        )
        held_out = {case: record for case, record in held_out.items() if case not in known}
    if fold != "all" and _have_healthy(held_out):
        return held_out, HELD_OUT
    seen = {case: records[case] for case in trained_on or split["train"] if case in records}
    if not _have_healthy(seen):
        raise MMCCDError(
            f"{preprocessed}: fold {fold} has no healthy slice with {modality} to calibrate on: preprocess the dataset "
            "again."
        )
    return seen, TRAINED_ON


def _load_splits(preprocessed: Path) -> list[Split]:
    path = preprocessed.parent / SPLITS_FILE
    if not path.is_file():
        raise MMCCDError(
            f"{path} does not exist: it says which cases each fold held out; copy it from where the model was trained."
        )
    return load_splits(path)


def _have_healthy(records: Mapping[str, CaseRecord]) -> bool:
    return any(item.healthy for record in records.values() for item in record.slices)


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
            maps = SliceMaps(
                *(content[name].astype(np.float32) for name in ("squared", "signed", "cycle", "coverage")),
                int(content["network_evaluations"]),
            )
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
