"""A whole dataset of simulated people in the raw layout."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.processes.executor import run_cases
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.phantom.lesions import Lesion
from mmccd_auto.phantom.signal import SEQUENCES
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps

ACQUISITIONS = (
    Acquisition(6, "LPS"),
    Acquisition(6, "RAS"),
    Acquisition(4, "LPS", tilt=12),
    Acquisition(6, "LAS"),
    Acquisition(6, "PSL", tilt=-8),
)
"""Taken in turn: most are thick axial slices, stored and tilted as they come from different scanners."""

TEST_LESIONS = (
    (Lesion("hyperintense", 20), Lesion("hyperintense", 6)),
    (Lesion("hyperintense", 13), Lesion("hyperintense", 9)),
    (Lesion("hypointense", 9), Lesion("hyperintense", 10)),
    (),
    (Lesion("isointense", 9), Lesion("hyperintense", 13)),
    (Lesion("haemorrhage", 9), Lesion("hyperintense", 6), Lesion("hyperintense", 8), Lesion("hyperintense", 5)),
)
"""Taken in turn: large, medium and small, mostly bright on FLAIR, two dark, one like grey matter, one person healthy."""

MODALITIES = tuple(SEQUENCES)


@dataclass(frozen=True)
class PhantomPeople:
    """Whom a phantom dataset holds.

    Attributes
    ----------
    training_subjects, test_subjects : people; the test subjects have the lesions of TEST_LESIONS in turn
    resolution : mm in the slice
    seed : of everything random

    Raises
    ------
    MMCCDError
        If the numbers make no sense.
    """

    training_subjects: int = 10
    test_subjects: int = 6
    resolution: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.training_subjects < 1 or self.test_subjects < 0 or not 1 <= self.resolution <= 4:
            raise MMCCDError("a phantom needs at least one training subject and a resolution within 1 and 4 mm.")

    def cases(self) -> list[tuple[str, tuple[Any, ...]]]:
        """List each case with its split, acquisition, lesions, resolution and seed, see :func:`write_subject`."""
        specifications = [
            *((f"healthy_{index:02d}", "Tr", index, ()) for index in range(self.training_subjects)),
            *(
                (f"test_{index:02d}", "Ts", index, TEST_LESIONS[index % len(TEST_LESIONS)])
                for index in range(self.test_subjects)
            ),
        ]
        return [
            (case, (split, _acquisition(index), lesions, self.resolution, (self.seed, split == "Ts", index)))
            for case, split, index, lesions in specifications
        ]


def _acquisition(index: int) -> Acquisition:
    return ACQUISITIONS[index % len(ACQUISITIONS)]


SIXTEEN_PEOPLE = PhantomPeople()


def write_phantom_dataset(
    raw: str | Path,
    number: int = 900,
    name: str = "Phantom",
    people: PhantomPeople = SIXTEEN_PEOPLE,
    processes: int = 0,
) -> Path:
    """Simulate healthy people to train on and people with lesions to test with.

    A person depends on the seed and the own number only, not on how many there are or on ``processes``.

    Parameters
    ----------
    raw : folder of raw datasets
    number, name : of the dataset
    people : how many, and what is drawn of them
    processes : workers; 0 works in this process

    Returns
    -------
    the dataset's folder, DatasetXXX_Name

    Raises
    ------
    MMCCDError
        If a file can't be written.
    """
    folder = Path(raw) / f"Dataset{number:03d}_{name}"
    arguments = [(case, (folder, case, *drawn)) for case, drawn in people.cases()]
    outcomes = run_cases(write_subject, arguments, processes, "simulating")
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    if failed:
        raise MMCCDError(failed[0])
    save_json(
        _description(name, people.training_subjects, {outcome.case: outcome.result for outcome in outcomes}),
        folder / "dataset.json",
    )
    return folder


def write_subject(
    folder: Path,
    case: str,
    split: str,
    acquisition: Acquisition,
    lesions: tuple[Lesion, ...],
    resolution: int,
    seed: tuple[int, ...],
) -> dict[str, Any]:
    """Simulate one person, write the scans (and, for a test subject, the label), and return what was simulated."""
    subject = simulate_subject(
        load_tissue_maps(resolution), acquisition, lesions, np.random.default_rng([int(part) for part in seed])
    )
    for channel, modality in enumerate(MODALITIES):
        scan = subject.scans[modality]
        write_volume(scan.array, scan.geometry, folder / f"images{split}" / f"{case}_{channel:04d}.nii.gz")
    if split == "Ts":
        write_volume(subject.label.array, subject.label.geometry, folder / f"labels{split}" / f"{case}.nii.gz")
    return {
        "acquisition": asdict(acquisition),
        "lesions": [asdict(lesion) for lesion in lesions],
        "abnormal_ml": round(float(subject.label.array.sum() * subject.label.geometry.voxel_volume / 1000), 2),
    }


def _description(name: str, training_subjects: int, cases: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "description": "Simulated brains; see documentation/phantom.md. Not for any use but to see the pipeline work.",
        "channel_names": {str(channel): modality for channel, modality in enumerate(MODALITIES)},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": training_subjects,
        "file_ending": ".nii.gz",
        "subjects": {case: case for case in cases},
        "cases": cases,
    }
