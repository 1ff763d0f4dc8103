"""A whole dataset of healthy people, simulated from label maps, in the raw layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmccd_auto.core.disk.hashing import file_sha256
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.processes.executor import run_cases
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.phantom.label_maps.read import find_label_maps, read_label_map
from mmccd_auto.phantom.label_maps.subject import simulate_head
from mmccd_auto.phantom.label_maps.tissues import MODALITIES


@dataclass(frozen=True)
class SimulatedPeople:
    """Whom a dataset of simulated people holds.

    Attributes
    ----------
    count : how many, at least one
    seed : of everything random
    skull : keep the whole head; else the scans are brain-only

    Raises
    ------
    MMCCDError
        If there is nobody.
    """

    count: int
    seed: int = 0
    skull: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise MMCCDError("people: give at least one to simulate.")


def write_simulated_people(
    label_maps: str | Path, raw: str | Path, number: int, name: str, people: SimulatedPeople, processes: int = 0
) -> Path:
    """Simulate healthy people to train on.

    The label maps are taken in turn. A person depends on the seed, the own number and the label map only, not on how many
    there are or on ``processes``.

    Parameters
    ----------
    label_maps : folder of label maps with FreeSurfer numbers, one for each head
    raw : folder of raw datasets
    number, name : of the dataset
    people : how many, and how they are simulated
    processes : workers; 0 works in this process

    Returns
    -------
    the dataset's folder, DatasetXXX_Name

    Raises
    ------
    MMCCDError
        If there are no label maps, one of them can't be used, or a file can't be written.
    """
    folder = Path(raw) / f"Dataset{number:03d}_{name}"
    maps = find_label_maps(label_maps)
    arguments = [
        (case, (folder, case, maps[index % len(maps)], (people.seed, index), people.skull))
        for index, case in ((index, f"simulated_{index:03d}") for index in range(people.count))
    ]
    # The label map stands in the description of each case: whoever divides the people into folds keeps its heads together.
    outcomes = run_cases(write_person, arguments, processes, "simulating")
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    if failed:
        raise MMCCDError(failed[0])
    cases = {outcome.case: outcome.result for outcome in outcomes}
    save_json(_description(name, people, maps, cases), folder / "dataset.json")
    return folder


def _description(name: str, people: SimulatedPeople, maps: Sequence[Path], cases: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "description": "Simulated healthy heads; see documentation/phantom.md.",
        "channel_names": {str(channel): modality for channel, modality in enumerate(MODALITIES)},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": people.count,
        "file_ending": ".nii.gz",
        "subjects": {case: case for case in cases},
        "label_maps": {path.name: file_sha256(path) for path in maps[: people.count]},
        "seed": people.seed,
        "cases": cases,
    }


def write_person(folder: Path, case: str, label_map: Path, seed: Sequence[int], skull: bool) -> dict[str, Any]:
    """Simulate one person, write the scans, and return what was simulated."""
    head = simulate_head(read_label_map(label_map), seed, skull)
    for channel, modality in enumerate(MODALITIES):
        scan = head.scans[modality]
        write_volume(scan.array, scan.geometry, folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
    return {
        "label_map": label_map.name.split(".")[0],
        "seed": list(seed),
        "slice_thickness": round(head.slice_thickness, 3),
        "gap": round(head.gap, 3),
        "faults_mm": {name: round(value, 2) for name, value in asdict(head.faults).items()},
        "scan_faults": {
            modality: {name: round(value, 3) for name, value in asdict(faults).items()}
            for modality, faults in head.scan_faults.items()
        },
        "sequences_ms": {
            modality: {key: None if time is None else round(float(time), 1) for key, time in asdict(sequence).items()}
            for modality, sequence in head.sequences.items()
        },
    }
