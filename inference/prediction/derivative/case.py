"""The files of one predicted case in a BIDS derivative."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from mmccd_auto.core.files import link_or_copy, save_json
from mmccd_auto.core.tables import write_tsv
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.inference.lesions.records import LesionRecord, LesionRow, lesions_of
from mmccd_auto.inference.prediction.case_record import FILES
from mmccd_auto.inference.prediction.derivative.names import Target, target_of
from mmccd_auto.inference.prediction.derivative.sidecars import (
    anomaly_sidecar,
    brain_mask_sidecar,
    candidate_mask_sidecar,
    lesion_mask_sidecar,
    lesions_sidecar,
)
from mmccd_auto.inference.scores.masks import NEIGHBOURS

IMAGE, SIDECAR, TABLE = ".nii.gz", ".json", ".tsv"
ANOMALY = ("probseg", {"desc": "anomaly"})
LESION_MASK = ("mask", {"label": "lesion"})
CANDIDATE_MASK = ("mask", {"desc": "candidates"})
BRAIN_MASK = ("mask", {"desc": "brain"})
NUMBERED = ("dseg", {"desc": "lesions"})
Kind = tuple[str, dict[str, str]]
_MASKS: dict[str, tuple[Kind, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "_mask.nii.gz": (LESION_MASK, lesion_mask_sidecar),
    "_candidates.nii.gz": (CANDIDATE_MASK, candidate_mask_sidecar),
    "_brain.nii.gz": (BRAIN_MASK, brain_mask_sidecar),
}
LESION_COLUMNS = {
    "index": "Number of the lesion, its value in the image; 1 is the largest",
    "name": "Place and side",
    "volume_ml": "Volume in millilitres",
    "longest_diameter_mm": "Longest diameter in mm, from outer edge to outer edge",
    "peak_score": "Highest anomaly score",
    "mean_score": "Mean anomaly score",
    "side": "Side of the patient, or midline",
    "place": "Place in the brain",
    "ventricle_mm": "Least distance from the lateral ventricles in mm",
    "cortex_mm": "Least distance from the cortex in mm",
    "centre_x_mm": "Centre, mm to the left of the origin (LPS)",
    "centre_y_mm": "Centre, mm to the back of the origin (LPS)",
    "centre_z_mm": "Centre, mm above the origin (LPS)",
    "voxel_i": "Voxel at the centre, first index from 0",
    "voxel_j": "Voxel at the centre, second index from 0",
    "voxel_k": "Voxel at the centre, third index from 0",
    "mni_x_mm": "Centre in MNI space, mm to the right (RAS)",
    "mni_y_mm": "Centre in MNI space, mm to the front (RAS)",
    "mni_z_mm": "Centre in MNI space, mm upwards (RAS)",
}


def write_derivative_case(run: Path, record: Mapping[str, Any], output: Path) -> list[Path]:
    """Write the files of a case of a run into a derivative; what an earlier run wrote there of the same scan goes.

    The sidecar of the map goes first and comes last: it says that the others are complete.

    Parameters
    ----------
    run : folder that holds the case's files
    record : content of its CASE.json
    output : folder of the derivative

    Returns
    -------
    what was written, below ``output``

    Raises
    ------
    MMCCDError
        If the scan isn't named by BIDS, or a file can't be read or written.
    """
    target = target_of(record["input_file"])
    marker = _file(target, ANOMALY, SIDECAR)
    (output / marker).unlink(missing_ok=True)
    case, there = record["case"], record[FILES]
    written = [_file(target, ANOMALY, IMAGE)]
    link_or_copy(run / f"{case}_anomaly.nii.gz", output / written[0])
    for ending, (kind, sidecar) in _MASKS.items():
        if f"{case}{ending}" in there:
            image, beside = _file(target, kind, IMAGE), _file(target, kind, SIDECAR)
            link_or_copy(run / f"{case}{ending}", output / image)
            save_json(sidecar(record), output / beside)
            written += [image, beside]
    if f"{case}_mask.nii.gz" in there:
        written += _write_lesions(run / f"{case}_mask.nii.gz", record, target, output)
    for kind in (LESION_MASK, CANDIDATE_MASK, BRAIN_MASK, NUMBERED):
        for ending in (IMAGE, SIDECAR, TABLE):
            if (old := _file(target, kind, ending)) not in written:
                (output / old).unlink(missing_ok=True)
    save_json(anomaly_sidecar(record), output / marker)
    return [*written, marker]


def _file(target: Target, kind: Kind, ending: str) -> Path:
    suffix, entities = kind
    return target.file(suffix, ending, **entities)


def _write_lesions(mask: Path, record: Mapping[str, Any], target: Target, output: Path) -> list[Path]:
    """Write the lesions by number: image, table and sidecar."""
    lesions = lesions_of(dict(record), f"{record['case']}.json")
    image, table, sidecar = (_file(target, NUMBERED, ending) for ending in (IMAGE, TABLE, SIDECAR))
    volume = read_volume(mask, dtype=None)
    write_volume(_numbered(volume.array, lesions), volume.geometry, output / image)
    write_tsv(output / table, list(LESION_COLUMNS), [_row(lesion) for lesion in lesions])
    save_json(lesions_sidecar(record, LESION_COLUMNS), output / sidecar)
    return [image, table, sidecar]


def _numbered(mask: np.ndarray, lesions: tuple[LesionRecord, ...]) -> np.ndarray:
    """Compute each connected part of a mask with the number of its lesion: uint16 [z, y, x]."""
    parts, count = ndimage.label(np.asarray(mask) > 0, structure=NEIGHBOURS)
    numbers = np.zeros(count + 1, dtype=np.uint16)
    for lesion in lesions:
        numbers[parts[lesion.centre_voxel[::-1]]] = lesion.number
    return numbers[parts]


def _row(lesion: LesionRecord) -> list[Any]:
    line = LesionRow.of("", lesion)
    name = f"{lesion.place}, {lesion.side}"
    return [lesion.number, name, *(getattr(line, column) for column in list(LESION_COLUMNS)[2:])]
