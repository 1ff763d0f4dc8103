"""The integrity check: every fault of a raw dataset in one list, each with the file and what to do."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.executor import Workers, run_cases
from mmccd_auto.datasets.dataset import DATASET_FILE, SPLITS, Dataset
from mmccd_auto.datasets.health import HEALTH_KEY, LABELLED, UNKNOWN
from mmccd_auto.datasets.names import naming_problems
from mmccd_auto.datasets.subjects import split_people
from mmccd_auto.imaging.brain_mask import examine_brain
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.labels import brain_mask_fault, label_fault
from mmccd_auto.imaging.non_finite import settle_non_finite, with_zeros
from mmccd_auto.imaging.volume import Geometry, Volume

MISSING_CHANNELS_KEY = "missing_channels"
CONFIRMED_KEY = "subjects_confirmed"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseReport:
    """What the check of one case found.

    Attributes
    ----------
    problems : sentences, each beginning with a file
    warnings : sentences on files that can be used, but should be looked at
    fingerprints : file -> hash of its voxels, by which copies of one image are found
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    fingerprints: dict[str, str] = field(default_factory=dict)


def verify_dataset(dataset: Dataset, processes: Workers) -> list[str]:
    """Check the whole dataset and return every problem, each line beginning with the file and saying what to do.

    Checked are: names and completeness of the files, numTraining, subjects, and per case that each file can be read, is
    finite inside the brain and not constant, that channels, label and brain mask are on one grid
    (:meth:`Geometry.differences`), that the label holds only values that dataset.json names, and that no image stands under
    two cases of different people or under two modalities. What is odd but no fault (a header that disagrees with itself) is
    logged as a warning.

    Parameters
    ----------
    dataset : the raw dataset
    processes : workers over the cases; 0 works in this process; or a cluster
    """
    problems = description_problems(dataset)
    for split in SPLITS:
        problems += naming_problems(dataset, split)
    keys = [(split, case) for split in SPLITS for case in dataset.cases(split)]
    declared, layout = dataset.content.get(MISSING_CHANNELS_KEY), dataset.layout()
    declared = declared if isinstance(declared, dict) else {}
    arguments = [
        (case, (replace(layout, content={MISSING_CHANNELS_KEY: {case: declared.get(case, ())}}), case, split))
        for split, case in keys
    ]
    owners: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for (split, case), outcome in zip(keys, run_cases(verify_case, arguments, processes, "Checking"), strict=True):
        if outcome.result is None:
            problems.append(f"{dataset.images_folder(split) / case}_*{dataset.file_ending}: {outcome.error}")
            continue
        problems += outcome.result.problems
        for warning in outcome.result.warnings:
            logger.warning("%s", warning)
        for file, fingerprint in outcome.result.fingerprints.items():
            owners[fingerprint].append((case, file))
    return problems + copy_problems(dataset, owners)


def description_problems(dataset: Dataset) -> list[str]:
    """Describe what in dataset.json disagrees with the folders: numTraining, subjects, missing_channels."""
    file = dataset.folder / DATASET_FILE
    cases = {split: dataset.cases(split) for split in SPLITS}
    known = set(cases["Tr"]) | set(cases["Ts"])
    problems = []
    if not cases["Tr"]:
        problems.append(
            f"{dataset.images_folder('Tr')} holds no case: put scans named CASE_0000{dataset.file_ending} there."
        )
    number = dataset.content.get("numTraining")
    if number != len(cases["Tr"]):
        said = "has no numTraining" if number is None else f"says numTraining {number}"
        problems.append(
            f"{file} {said}, but imagesTr holds {len(cases['Tr'])} cases: correct it or add the cases that are missing."
        )
    problems += [
        f"{dataset.images_folder('Ts') / case}_*{dataset.file_ending} has the name of a training case: remove one of the "
        "two or give the test case another name."
        for case in sorted(set(cases["Tr"]) & set(cases["Ts"]))
    ]
    problems += [
        f"{file} names a subject for case {case}, which has no images: correct the case's name or remove the entry."
        for case in sorted(set(dataset.subjects) - known)
    ]
    problems += _people_problems(dataset)
    in_test = {dataset.subject(case): case for case in cases["Ts"] if case not in cases["Tr"]}
    for case in cases["Tr"]:
        if dataset.subject(case) in in_test:
            problems.append(
                f"{file} gives training case {case} and test case {in_test[dataset.subject(case)]} the same subject "
                f"{dataset.subject(case)}: move all cases of one person to one side."
            )
    return problems + _health_problems(dataset, known) + _declaration_problems(dataset, known)


def _people_problems(dataset: Dataset) -> list[str]:
    """List the sessions of one person, by the names of the cases, that dataset.json gives to several people.

    The folds would leak.
    """
    if dataset.content.get(CONFIRMED_KEY) is True:
        return []
    return [
        f"{dataset.folder / DATASET_FILE} counts {', '.join(cases)} as several people, though by their names they are "
        f'sessions of one ({person}): name one subject for them, or add "{CONFIRMED_KEY}": true if they are several.'
        for person, cases in split_people(dataset.people).items()
    ]


def verify_case(dataset: Dataset, case: str, split: str) -> CaseReport:
    """Check one case's files, one volume in memory at a time."""
    problems = _channel_problems(dataset, case, split)
    warnings: list[str] = []
    fingerprints: dict[str, str] = {}
    reference: tuple[Path, Geometry] | None = None
    extras: list[tuple[Path, Geometry]] = []
    brain = None
    for path, check in (
        (dataset.label_file(case, split), _label_problems),
        (dataset.brain_mask_file(case, split), _mask_problems),
    ):
        volume = None if path is None else _read(path, problems, warnings)
        if path is None or volume is None:
            continue
        faults = check(path, volume.array, dataset)
        problems += faults
        extras.append((path, volume.geometry))
        brain = volume.array > 0 if check is _mask_problems and not faults else None
    for modality in dataset.available_modalities(case, split):
        path = dataset.channel_file(case, modality, split)
        volume = _read(path, problems, warnings)
        if volume is None:
            continue
        faults = _image_problems(path, volume, brain, warnings)
        problems += faults
        if not faults:
            fingerprints[str(path)] = _fingerprint(volume.array)
        reference = reference or (path, volume.geometry)
        problems += _grid_problems(path, volume.geometry, *reference)
    if reference is not None:
        for path, geometry in extras:
            problems += _grid_problems(path, geometry, *reference)
    return CaseReport(tuple(problems), tuple(warnings), fingerprints)


def copy_problems(dataset: Dataset, owners: dict[str, list[tuple[str, str]]]) -> list[str]:
    """List the images that stand under two names: for two people (the folds would leak) or as two modalities of one case.

    Parameters
    ----------
    dataset : says whose the cases are
    owners : hash of the voxels -> (case, file) of every image that has it
    """
    problems = []
    for entries in owners.values():
        first_case, first_file = entries[0]
        for case, file in entries[1:]:
            one_split = Path(file).parent == Path(first_file).parent
            if case == first_case and one_split:
                problems.append(f"{file} holds the same voxels as {first_file}: put the scan of the right modality there.")
            elif dataset.subject(case) != dataset.subject(first_case):
                problems.append(
                    f"{file} holds the same voxels as {first_file}, though the cases count as two people: remove one, or "
                    f"name one subject for both in {DATASET_FILE}."
                )
    return problems


def _health_problems(dataset: Dataset, known: set[str]) -> list[str]:
    """List the cases whose stated health doesn't fit their labels, or that don't exist."""
    file = dataset.folder / DATASET_FILE
    stated = dataset.stated_health or {}
    problems = [
        f"{file} names the {HEALTH_KEY} of case {case}, which has no images: correct the name or remove the entry."
        for case in sorted(set(stated) - known)
    ]
    for case in dataset.cases("Tr"):
        label = dataset.label_file(case)
        if stated.get(case) == LABELLED and label is None:
            problems.append(f"{file} says that case {case} is labelled, but labelsTr has no label of it: add or correct it.")
        if stated.get(case) == UNKNOWN and label is not None:
            problems.append(f"{file} says that the health of case {case} is unknown, but {label} is there: say labelled.")
    return problems


def _declaration_problems(dataset: Dataset, known: set[str]) -> list[str]:
    file = dataset.folder / DATASET_FILE
    declared = dataset.content.get(MISSING_CHANNELS_KEY, {})
    example = f'"{MISSING_CHANNELS_KEY}": {{"case1": ["{dataset.modalities[-1]}"]}}'
    well_formed = isinstance(declared, dict) and all(
        isinstance(names, list) and set(map(str, names)) <= set(dataset.modalities) for names in declared.values()
    )
    if not well_formed:
        return [f"{file}: {MISSING_CHANNELS_KEY} must be an object of cases and lists of modalities, as in {example}."]
    return [
        f"{file} names {MISSING_CHANNELS_KEY} for case {case}, which has no images: correct the name or remove the entry."
        for case in sorted(set(declared) - known)
    ]


def _channel_problems(dataset: Dataset, case: str, split: str) -> list[str]:
    """List missing channels: each training scan that isn't declared as missing, and cases with fewer than two."""
    available = dataset.available_modalities(case, split)
    if split == "Ts":
        # A single modality is enough for prediction, and which one is known only once a model is chosen.
        return []
    problems = []
    declared = dataset.content.get(MISSING_CHANNELS_KEY, {})
    expected_missing = declared.get(case, ()) if isinstance(declared, dict) else ()
    for modality in dataset.modalities:
        if modality not in available and modality not in expected_missing:
            problems.append(
                f"{dataset.channel_file(case, modality, split)} is missing ({modality} of case {case}): add it, or, if "
                f"there is no such scan, list {modality} for this case under {MISSING_CHANNELS_KEY} in {DATASET_FILE}."
            )
    if len(available) == 1:
        problems.append(
            f"{dataset.channel_file(case, available[0], split)} is the only scan of case {case}: add another modality or "
            "remove the case, training needs two of each person."
        )
    return problems


def _read(path: Path, problems: list[str], warnings: list[str]) -> Volume | None:
    try:
        volume = read_volume(path, dtype=None, warn=False)
    except MMCCDError as error:
        problems.append(str(error))
        return None
    warnings += [f"{path}: {warning}" for warning in volume.warnings]
    return volume


def _image_problems(path: Path, volume: Volume, brain: np.ndarray | None, warnings: list[str]) -> list[str]:
    """Describe what is wrong with a scan's values; ``brain`` is the given mask."""
    finite = with_zeros(volume)
    if finite is not volume:
        if brain is None or brain.shape != volume.array.shape:
            found = examine_brain(finite.array, volume.geometry.spacing)
            brain = found.mask if found.usable else np.ones(volume.array.shape, dtype=bool)
        try:
            settled = settle_non_finite(Volume(volume.array, volume.geometry), brain, str(path))
        except MMCCDError as error:
            return [str(error)]
        warnings += [f"{path}: {warning}" for warning in settled.warnings]
    if finite.array.min() == finite.array.max():
        return [f"{path} is constant (every voxel is {finite.array.flat[0]:g}): export it again or remove it."]
    return []


def _grid_problems(path: Path, geometry: Geometry, reference: Path, reference_geometry: Geometry) -> list[str]:
    differences = geometry.differences(reference_geometry)
    if not differences:
        return []
    return [
        f"{path} is not on the grid of {reference.name} ({'; '.join(differences)}): register and resample it onto that grid "
        "(labels and masks with nearest neighbour), or correct its header."
    ]


def _label_problems(path: Path, array: np.ndarray, dataset: Dataset) -> list[str]:
    fault = label_fault(array, dataset.label_values)
    return [] if fault is None else [f"{path} {fault}"]


def _mask_problems(path: Path, array: np.ndarray, _: Dataset) -> list[str]:
    fault = brain_mask_fault(array)
    if fault is None and array.all():
        fault = "marks every voxel as brain: draw it again or remove it."
    return [] if fault is None else [f"{path} {fault}"]


def _fingerprint(array: np.ndarray) -> str:
    # As float32 and with 0.0 added (which turns -0.0 into 0.0), a copy stored as another type is still found.
    values = np.ascontiguousarray(array, dtype=np.float32) + np.float32(0.0)
    digest = hashlib.blake2b(str(values.shape).encode(), digest_size=16)
    digest.update(values.data)
    return digest.hexdigest()
