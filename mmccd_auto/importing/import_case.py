"""One case of an export becomes one of a raw dataset: its files, its picture and its record."""

from __future__ import annotations

import glob
import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import SimpleITK as sitk
from annotated_types import Gt, Len

from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.names import CaseName, ModalityName
from mmccd_auto.core.records import OTHERS_ALLOWED, JsonObject, read_content
from mmccd_auto.datasets.health import HEALTHY, LABELLED, UNKNOWN
from mmccd_auto.dicom.records import Series
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.labels import read_brain_mask
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.importing.label_files import check_label, lay_label, read_label
from mmccd_auto.preprocessing.align_modalities import PreparedCase, brain_only, prepare_case
from mmccd_auto.reporting.alignment import alignment_picture
from mmccd_auto.sources.cases import SourceCase, load_scan

RECORDS_FOLDER = "import"
FORMAT = 2
SPLIT_OF = {HEALTHY: "Tr", LABELLED: "Tr", UNKNOWN: "Ts"}
"""Patients without labels lie in imagesTs: there is nothing to learn from them, and prediction finds them there."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseOptions:
    """How cases are imported.

    Attributes
    ----------
    health : "healthy", "labelled" or "unknown"
    channels : number by modality
    reference : modality whose grid is kept
    backend : of the brain extraction
    keep_head : leave skull and face in the images
    label_values : that mark what is abnormal
    overwrite : import cases again that are there
    """

    health: str
    channels: Mapping[str, int]
    reference: str
    backend: str
    keep_head: bool
    label_values: tuple[int, ...]
    overwrite: bool


@dataclass(frozen=True)
class _KeptBrain:
    """What is read of the brain."""

    __pydantic_config__: ClassVar = OTHERS_ALLOWED
    brain_ml: Annotated[float, Gt(0)]
    warning: str


@dataclass(frozen=True)
class _KeptRecord:
    """What is read of import/CASE.json when an import goes on."""

    __pydantic_config__: ClassVar = OTHERS_ALLOWED
    case: CaseName
    modalities: Annotated[tuple[ModalityName, ...], Len(1)]
    brain_extraction: _KeptBrain
    left_out: dict[str, str]
    files: Annotated[tuple[str, ...], Len(1)]
    made_from: JsonObject
    subject: str = ""
    origin: str = ""
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    health: Literal["healthy", "labelled", "unknown"] = HEALTHY


def import_case(
    source: SourceCase,
    options: CaseOptions,
    dataset: Path,
    temporary: Path | None,
    label: Path | None = None,
    brain_mask: Path | None = None,
) -> dict[str, Any]:
    """Import one case and return its record, unless that was done before from the same files by the same options.

    Parameters
    ----------
    source : the case's scans
    options : how it is imported
    dataset : folder, DatasetXXX_Name
    temporary : folder for temporary files; None makes one, on the machine where this runs
    label : file of what is abnormal, on the grid of one of the scans
    brain_mask : file, 1 in the brain and 0 elsewhere, on the grid of the reference; None looks for the brain

    Raises
    ------
    MMCCDError
        If the case can't be used: fewer than two modalities, no reference, no brain, a label that doesn't fit; or if the
        dataset has a case of this name from elsewhere.
    """
    record_file = dataset / RECORDS_FOLDER / f"{source.case}.json"
    made_from = _made_from(source, options, label, brain_mask)
    existing = None if options.overwrite else read_case_record(record_file)
    if existing is not None:
        if existing["made_from"] == made_from and all((dataset / name).is_file() for name in existing["files"]):
            return existing
        _refuse_another(source, existing, made_from)
    remove_case(dataset, source.case)
    if len(source.scans) < 2:
        raise MMCCDError(
            f"{source.case} has only {', '.join(source.scans)}: training needs two modalities, so it is left out."
        )
    with workspace("import-case") if temporary is None else nullcontext(temporary) as folder:
        volumes, unread = _read_scans(source, folder)
    if options.reference not in volumes:
        missing = f"{source.case} has no {options.reference}, onto which others are laid: left out."
        raise MMCCDError(unread.get(options.reference, missing))
    drawn = None if label is None else _read_drawn(source, label, options.label_values)
    brain = None if brain_mask is None else read_brain_mask(brain_mask)
    prepared = prepare_case(source.case, volumes, options.reference, options.backend, brain)
    if len(prepared.volumes) < 2:
        reasons = " ".join([*unread.values(), *prepared.left_out.values()])
        raise MMCCDError(f"{source.case} has no second modality that could be laid on its {options.reference}: {reasons}")
    laid = None if drawn is None else _laid_label(source.case, drawn, volumes, prepared)
    files = _write_case(source.case, prepared, laid, options, dataset)
    record = _record(source, prepared, made_from, files, {**unread, **prepared.left_out})
    save_json(record, record_file)
    return record


def remove_case(dataset: Path, case: str) -> None:
    """Remove what an earlier import wrote of a case, its record first; nothing that anybody else put there."""
    record_file = dataset / RECORDS_FOLDER / f"{case}.json"
    record = read_case_record(record_file)
    written = [name for name in (record or {"files": ()})["files"] if _is_inside(dataset / name, dataset)]
    record_file.unlink(missing_ok=True)
    paths = {dataset / name for name in written} | {record_file.with_suffix(".png")}
    for split in ("Tr", "Ts"):
        # What a killed import had written before its record.
        paths |= set((dataset / f"images{split}").glob(f"{glob.escape(case)}_[0-9][0-9][0-9][0-9].nii.gz"))
        paths.add(dataset / f"brain_masks{split}" / f"{case}.nii.gz")
    for path in paths:
        path.unlink(missing_ok=True)


def read_case_record(path: Path) -> dict[str, Any] | None:
    """Read import/CASE.json; None where there is none, or none that can be used."""
    if not path.is_file():
        return None
    try:
        return read_content(_KeptRecord, path)
    except MMCCDError as error:
        logger.warning("%s The case is imported again.", error)
        return None


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def state_of(files: Sequence[Path]) -> str:
    """Give a hash of files by their sizes and times (their names may name the patient)."""
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        digest.update(f"{state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _made_from(source: SourceCase, options: CaseOptions, label: Path | None, brain_mask: Path | None) -> dict[str, Any]:
    def files(scan: Path | Series) -> list[Path]:
        return [scan] if isinstance(scan, Path) else sorted(scan.files)

    return {
        "format": FORMAT,
        "scans": {modality: state_of(files(scan)) for modality, scan in sorted(source.scans.items())},
        "channels": {modality: options.channels[modality] for modality in sorted(source.scans)},
        "reference": options.reference,
        "brain_extraction": options.backend,
        "keep_head": options.keep_head,
        "health": options.health,
        "label": None if label is None else state_of([label]),
        "label_values": list(options.label_values) if label is not None else None,
        # Named only where it is given, so that cases of earlier imports stay as they are.
        **({} if brain_mask is None else {"brain_mask": state_of([brain_mask])}),
    }


def _refuse_another(source: SourceCase, existing: dict[str, Any], made_from: dict[str, Any]) -> None:
    """Refuse to replace a case by one of the same name from another folder: it may be another person."""
    same_scans = existing.get("made_from", {}).get("scans") == made_from["scans"]
    if existing.get("origin", source.origin) != source.origin and not same_scans:
        raise MMCCDError(
            f"{source.case} is in the dataset already, from another export: rename its files, or let --overwrite replace it."
        )


def _read_scans(source: SourceCase, workspace: Path) -> tuple[dict[str, Volume], dict[str, str]]:
    """Read the volumes by modality, and why others can't be read."""
    volumes, unread = {}, {}
    for modality, scan in source.scans.items():
        try:
            volumes[modality] = load_scan(scan, workspace)
        except MMCCDError as error:
            unread[modality] = f"{source.case}: {error}"
    return volumes, unread


def _read_drawn(source: SourceCase, label: Path, values: Sequence[int]) -> Volume:
    """Read the label; of a DICOM case its file's name, which may be the patient's, isn't shown."""
    try:
        return read_label(label, values)
    except MMCCDError as error:
        if all(isinstance(scan, Path) for scan in source.scans.values()):
            raise
        raise MMCCDError(f"{source.case}: {str(error).replace(str(label), 'its label')}") from None


def _laid_label(case: str, drawn: Volume, volumes: Mapping[str, Volume], prepared: PreparedCase) -> Volume:
    """Return the label on the reference's grid, carried there as the scan on whose grid it was drawn.

    Raises
    ------
    MMCCDError
        If it lies on the grid of no scan that is used, or elsewhere than the brain.
    """
    fitting = [name for name in prepared.volumes if not drawn.geometry.differences(volumes[name].geometry)]
    if not fitting:
        raise MMCCDError(
            f"{case}: its label lies on the grid of none of its scans ({', '.join(prepared.volumes)}): resample it onto the "
            "scan on which it was drawn, with nearest neighbour."
        )
    geometry = next(iter(prepared.volumes.values())).geometry
    registration = prepared.registrations.get(fitting[0])
    transform = sitk.Transform(3, sitk.sitkIdentity) if registration is None else registration.transform
    laid = lay_label(drawn, geometry, transform)
    check_label(case, drawn, laid, prepared.brain.mask)
    return laid


def _write_case(case: str, prepared: PreparedCase, label: Volume | None, options: CaseOptions, dataset: Path) -> list[str]:
    """Write the case's files, the label first: without it the case could count as healthy."""
    brain, split = prepared.brain.mask, SPLIT_OF[options.health]
    geometry = next(iter(prepared.volumes.values())).geometry
    volumes = {} if label is None else {f"labels{split}/{case}.nii.gz": label.array}
    for modality, volume in prepared.volumes.items():
        written = volume if options.keep_head else brain_only(volume, brain)
        volumes[f"images{split}/{case}_{options.channels[modality]:04d}.nii.gz"] = written.array
    volumes[f"brain_masks{split}/{case}.nii.gz"] = brain.astype(np.uint8)
    for name, array in volumes.items():
        write_volume(array, geometry, dataset / name)
    picture = dataset / RECORDS_FOLDER / f"{case}.png"
    alignment_picture(picture, case, prepared.volumes, brain, prepared.brain.warning)
    return list(volumes)


def _record(
    source: SourceCase,
    prepared: PreparedCase,
    made_from: dict[str, Any],
    files: list[str],
    left_out: dict[str, str],
) -> dict[str, Any]:
    geometry = next(iter(prepared.volumes.values())).geometry
    return {
        "case": source.case,
        "subject": source.subject,
        "origin": source.origin,
        "health": made_from["health"],
        "modalities": list(prepared.volumes),
        "brain_extraction": {
            "backend": prepared.brain.backend,
            "brain_ml": round(float(prepared.brain.mask.sum() * geometry.voxel_volume / 1000), 1),
            "warning": prepared.brain.warning,
        },
        "registrations": {
            modality: {
                "moved": found.moved,
                "shift_mm": round(found.shift, 2),
                "angle_degrees": round(found.angle, 2),
                "likeness": round(found.likeness, 4),
                "likeness_by_headers": round(found.likeness_before, 4),
                "contrast": round(found.contrast, 3),
            }
            for modality, found in prepared.registrations.items()
        },
        "warnings": {modality: list(volume.warnings) for modality, volume in prepared.volumes.items() if volume.warnings},
        "left_out": left_out,
        "files": files,
        "made_from": made_from,
    }
