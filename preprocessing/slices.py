"""Preprocessed cases on disk: one npz per slice with brain, and CASE.json, which is written last."""

from __future__ import annotations

import glob
import os
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Len

from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import TEMPORARY_PREFIX, save_json
from mmccd_auto.core.names import CaseName, ModalityName, check_path_name
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.datasets.dataset import DATASET_FILE
from mmccd_auto.datasets.health import UNKNOWN, read_health
from mmccd_auto.plans.measures import healthy_slices
from mmccd_auto.preprocessing.npz_files import BROKEN_ARRAYS
from mmccd_auto.preprocessing.preprocess_case import CaseGeometry, PreprocessedCase
from mmccd_auto.preprocessing.stored_samples import write_samples

# zlib's first level: less time than numpy's sixth, for 2 % more bytes.
COMPRESSION = 1
REMEDY = "run mmccd_plan_and_preprocess with --overwrite, which makes it again"
FORMAT_VERSION = 4
"""Of how slices are made; raised whenever the same scan gives others, so that they are made again."""


@dataclass(frozen=True)
class SliceRecord:
    """One slice on disk.

    Attributes
    ----------
    file : relative to the folder that holds CASE.json
    index : of the slice in the canonical volume
    brain_pixels, anomaly_pixels : of the slice
    healthy : fit for training: the brain has at least 10 % of the area of the case's largest, and no abnormality is marked
        within 2 slices
    """

    file: str
    index: Annotated[int, Ge(0)]
    brain_pixels: Annotated[int, Ge(0)]
    anomaly_pixels: Annotated[int, Ge(0)]
    healthy: bool


@dataclass(frozen=True)
class CaseRecord:
    """CASE.json: what was made of a case, and by which settings.

    Attributes
    ----------
    case, subject : the case, and the person it is of
    modalities : of the channels of the slices
    labelled : somebody drew the abnormalities (none, perhaps)
    slices : all with brain, by index
    geometry : the way back to the scan
    normalisation : parameters per modality
    settings : the plan's entries that the slices depend on
    sources : size in bytes and time of modification (ns) of each raw file
    """

    case: CaseName
    subject: str
    modalities: Annotated[tuple[ModalityName, ...], Len(1)]
    labelled: bool
    slices: tuple[SliceRecord, ...]
    geometry: CaseGeometry
    normalisation: dict[str, dict[str, float]]
    settings: JsonObject
    sources: dict[str, tuple[int, int]]

    def __post_init__(self) -> None:
        for item in self.slices:
            if item.file != _slice_file(self.case, item.index):
                raise MMCCDError(
                    f"slices: the file of slice {item.index} is {item.file!r}, not {_slice_file(self.case, item.index)}."
                )

    @classmethod
    def load(cls, path: str | Path) -> CaseRecord:
        """Read CASE.json; raises :class:`MMCCDError` naming the file and the entry that is wrong."""
        record = read_record(cls, path, REMEDY)
        if record.case != Path(path).stem:
            raise MMCCDError(f"{path}: the case is {record.case}, which is not the file's name: {REMEDY}.")
        return record

    def save(self, path: str | Path) -> None:
        """Write CASE.json."""
        save_json(asdict(self), path)


def case_record_path(folder: str | Path, case: str) -> Path:
    """Find where CASE.json is, or would be."""
    return Path(folder) / f"{case}.json"


def write_case(
    folder: str | Path,
    preprocessed: PreprocessedCase,
    subject: str | None = None,
    settings: dict[str, Any] | None = None,
    sources: dict[str, tuple[int, int]] | None = None,
) -> CaseRecord:
    """Write the slices with brain, then CASE.json; whatever was there of the case before is replaced.

    The slices are written into a temporary folder that takes the case's name once it is whole, so that a kill leaves either
    a complete case with its CASE.json or no CASE.json.

    Parameters
    ----------
    folder : of the plans, gets CASE/slice_0070.npz and CASE.json
    subject : the case is taken for a person of its own where it's None
    settings, sources : see :class:`CaseRecord`

    Raises
    ------
    MMCCDError
        If the disk is full or the folder can't be written to.
    """
    folder = Path(folder)
    case = check_path_name("case", preprocessed.case, str(folder))
    final, temporary = folder / case, folder / f"{TEMPORARY_PREFIX}{case}"
    record = CaseRecord(
        case=case,
        subject=subject or case,
        modalities=preprocessed.modalities,
        labelled=preprocessed.anomaly is not None,
        slices=_slice_records(preprocessed),
        geometry=preprocessed.geometry,
        normalisation=preprocessed.normalisation,
        settings=settings or {},
        sources=sources or {},
    )
    try:
        remove_case(folder, case)
        temporary.mkdir(parents=True)
        for item in record.slices:
            _write_slice(temporary / Path(item.file).name, preprocessed, item.index)
        write_samples(temporary, preprocessed.field_samples)
        os.replace(temporary, final)
    except OSError as error:
        raise MMCCDError(
            f"{final} could not be written ({error.strerror or error}): free some disk space or choose another folder."
        ) from error
    finally:
        with suppress(MMCCDError):
            remove_folder(temporary, folder)
    record.save(case_record_path(folder, case))
    return record


def remove_case(folder: str | Path, case: str) -> None:
    """Remove what there is of a case, complete or left by a killed run; CASE.json goes first.

    Raises
    ------
    MMCCDError
        If the folder can't be written to.
    """
    folder = Path(folder)
    check_path_name("case", case, str(folder))
    try:
        case_record_path(folder, case).unlink(missing_ok=True)
        for left in (folder / case, folder / f"{TEMPORARY_PREFIX}{case}"):
            remove_folder(left, folder)
        for left in folder.glob(f"{TEMPORARY_PREFIX}*-{glob.escape(case)}.json"):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise MMCCDError(
            f"{folder / case} could not be removed ({error.strerror or error}): check who may write there."
        ) from error


def read_slice(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read one slice.

    Returns
    -------
    image float32 [C, H, W], brain bool [H, W], anomaly uint8 [H, W]

    Raises
    ------
    MMCCDError
        If the file is missing or broken.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["image"], content["brain"], content["anomaly"]
    except BROKEN_ARRAYS as error:
        raise MMCCDError(
            f"{path} can't be read as a preprocessed slice ({error}): preprocess the case again with --overwrite."
        ) from error


def read_slices(
    folder: str | Path, record: CaseRecord, indices: Iterable[int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read several slices of a case.

    Parameters
    ----------
    folder : that holds CASE.json
    indices : slice indices in the canonical volume; None reads all that have brain

    Returns
    -------
    image float32 [C, N, H, W], brain bool [N, H, W], anomaly uint8 [N, H, W], in the order of ``indices``
    """
    files = {item.index: item.file for item in record.slices}
    wanted = list(files) if indices is None else list(indices)
    images, brains, anomalies = zip(*(read_slice(Path(folder) / files[index]) for index in wanted), strict=True)
    return np.stack(images, axis=1), np.stack(brains), np.stack(anomalies)


def load_case_records(folder: str | Path) -> dict[str, CaseRecord]:
    """Load all complete cases of a preprocessed folder by name, sorted; empty where there is none.

    Cases of unknown health (see :mod:`mmccd_auto.datasets.health`) are left out, whatever lies in the folder.

    Raises
    ------
    MMCCDError
        If another version of this package made some of them, by a recipe that scans to predict no longer go through.
    """
    paths = sorted(Path(folder).glob("*.json"))
    unknown = _of_unknown_health(Path(folder))
    paths = [path for path in paths if path.stem not in unknown and (path.parent / path.stem).is_dir()]
    records = {path.stem: CaseRecord.load(path) for path in paths}
    other = [case for case, record in records.items() if record.settings.get("format", FORMAT_VERSION) != FORMAT_VERSION]
    if other:
        raise MMCCDError(
            f"{folder} holds slices that another version of this package made ({', '.join(other[:3])}"
            f"{', ...' if len(other) > 3 else ''}): run mmccd_plan_and_preprocess again, which makes them again."
        )
    return records


def _slice_file(case: str, index: int) -> str:
    return f"{case}/slice_{index:04d}.npz"


def _of_unknown_health(folder: Path) -> set[str]:
    """Return the cases of unknown health by the dataset.json beside the plans' folder, where there is one."""
    path = folder.parent / DATASET_FILE
    health = read_health(read_record(JsonObject, path), path) if path.is_file() else None
    return {case for case, kind in (health or {}).items() if kind == UNKNOWN}


def _slice_records(preprocessed: PreprocessedCase) -> tuple[SliceRecord, ...]:
    brain_pixels = np.count_nonzero(preprocessed.brain, axis=(1, 2))
    if preprocessed.anomaly is None:
        anomaly_pixels = np.zeros_like(brain_pixels)
    else:
        anomaly_pixels = np.count_nonzero(preprocessed.anomaly, axis=(1, 2))
    healthy = healthy_slices(brain_pixels, anomaly_pixels)
    return tuple(
        SliceRecord(
            file=_slice_file(preprocessed.case, int(index)),
            index=int(index),
            brain_pixels=int(brain_pixels[index]),
            anomaly_pixels=int(anomaly_pixels[index]),
            healthy=bool(healthy[index]),
        )
        for index in np.flatnonzero(brain_pixels)
    )


def _write_slice(path: Path, preprocessed: PreprocessedCase, index: int) -> None:
    brain = preprocessed.brain[index]
    anomaly = np.zeros(brain.shape, dtype=np.uint8) if preprocessed.anomaly is None else preprocessed.anomaly[index]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as file:
        for name, array in (("image", preprocessed.image[:, index]), ("brain", brain), ("anomaly", anomaly)):
            with file.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
