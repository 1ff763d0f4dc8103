"""An export becomes a raw dataset: modalities on one grid, brains without heads, pseudonyms."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Len

from mmccd_auto.core.locks import folder_lock
from mmccd_auto.core.names import ModalityName
from mmccd_auto.core.records import OTHERS_ALLOWED, JsonObject, read_content, read_record
from mmccd_auto.core.workspaces import workspace
from mmccd_auto.dataset_subjects import describe_people
from mmccd_auto.datasets import DATASET_FILE, DEFAULT_LABELS
from mmccd_auto.dicom.records import Series
from mmccd_auto.errors import MMCCDError
from mmccd_auto.executor import run_cases
from mmccd_auto.files import save_json
from mmccd_auto.image_io import write_volume
from mmccd_auto.importing.pseudonyms import check_link_place, read_key, write_link
from mmccd_auto.importing.series_table import table_text, write_table
from mmccd_auto.integrity import MISSING_CHANNELS_KEY
from mmccd_auto.modalities import contrast
from mmccd_auto.preprocessing.prepare_case import PreparedCase, brain_only, prepare_case
from mmccd_auto.reporting.alignment import alignment_picture
from mmccd_auto.sources.cases import SourceCase, SourceListing, list_source_cases, load_scan

RECORDS_FOLDER = "import"
SERIES_FILE = "series.csv"
REFERENCE_PREFERENCE = ("FLAIR", "T2", "T1C", "T1")
FORMAT = 1
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportOptions:
    """What a user may ask of an import.

    Attributes
    ----------
    modalities : to import, in the order of their channels
    reference : onto whose grid the others are laid; None takes the first of FLAIR, T2, T1C, T1 that is imported
    series : pattern by modality, see :func:`mmccd_auto.dicom.choose_series.choose_series`
    backend : of the brain extraction
    key_file : secret for pseudonyms that stay the same when the export grows; None numbers the cases
    link_file : where the table goes that leads from pseudonyms to people; None writes none
    keep_head : leave skull and face in the images; else voxels outside the brain are set to a constant
    overwrite : import cases again that are there
    """

    modalities: tuple[str, ...] = ("FLAIR", "T1", "T2")
    reference: str | None = None
    series: dict[str, str] = field(default_factory=dict)
    backend: str = "auto"
    key_file: str | None = None
    link_file: str | None = None
    keep_head: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class _Corrections:
    """What is read of dataset.json when an import goes on."""

    __pydantic_config__: ClassVar = OTHERS_ALLOWED
    subjects: dict[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class _KeptRecord:
    """What is read of import/CASE.json when an import goes on."""

    __pydantic_config__: ClassVar = OTHERS_ALLOWED
    modalities: Annotated[tuple[ModalityName, ...], Len(1)]
    left_out: dict[str, str]
    files: Annotated[tuple[str, ...], Len(1)]
    made_from: JsonObject


@dataclass(frozen=True)
class ImportSummary:
    """What became of an import.

    Attributes
    ----------
    dataset : folder, DatasetXXX_Name
    imported : cases that can be trained on
    failed : a sentence for each case that can't
    notes : sentences on scans that were left out of their case, and files that could not be read
    """

    dataset: Path
    imported: tuple[str, ...]
    failed: list[str]
    notes: list[str]


def import_dataset(source: str | Path, dataset: str | Path, options: ImportOptions, processes: int) -> ImportSummary:
    """Turn an export into a raw dataset to train on; an interrupted import continues where it was.

    Parameters
    ----------
    source : folder, zip archive or DICOMDIR; DICOM files, else NIfTI files named by their modality
    dataset : folder to make, DatasetXXX_Name
    options : the user's wishes
    processes : workers; 0 works in this process

    Raises
    ------
    MMCCDError
        If there is nothing to import, or the dataset's folder holds something else.
    """
    dataset = Path(dataset)
    _check_place(dataset)
    reference = _reference(options)
    if options.link_file is not None:
        check_link_place(options.link_file, dataset)
    key = None if options.key_file is None else read_key(options.key_file)
    with folder_lock(dataset, "a dataset"), workspace("import") as temporary:
        listing = list_source_cases(source, options.modalities, temporary, options.series, key, output=dataset)
        logger.info("%s", table_text(listing.table))
        write_table(listing.table, dataset / RECORDS_FOLDER / SERIES_FILE)
        if options.link_file is not None:
            write_link(options.link_file, listing.studies, listing.names, _source_files(listing, Path(source)))
        channels = _channels(listing, options.modalities)
        usable = [case for case in listing.cases if case.error is None]
        subjects = _subjects(dataset, {case.case: case.subject for case in usable})
        logger.info("%s; correct subjects in %s if this is wrong", describe_people(subjects), DATASET_FILE)
        arguments = [
            (case.case, (case, channels, reference, options, dataset, temporary / f"work-{index}"))
            for index, case in enumerate(usable)
        ]
        outcomes = run_cases(import_case, arguments, processes, "importing")
    failed = [case.error for case in listing.cases if case.error is not None]
    failed += [outcome.error for outcome in outcomes if outcome.error is not None]
    records = {outcome.case: outcome.result for outcome in outcomes if outcome.result is not None}
    left_out = [sentence for record in records.values() for sentence in record["left_out"].values()]
    if records:
        _describe(dataset, channels, records, subjects)
    return ImportSummary(dataset, tuple(records), failed, [*listing.notes, *left_out])


def import_case(
    source: SourceCase, channels: Sequence[str], reference: str, options: ImportOptions, dataset: Path, workspace: Path
) -> dict[str, Any]:
    """Import one case and return its record, unless that was done before from the same files by the same options.

    Raises
    ------
    MMCCDError
        If the case can't be trained on: fewer than two modalities, no reference, no brain.
    """
    record_file = dataset / RECORDS_FOLDER / f"{source.case}.json"
    made_from = {
        "format": FORMAT,
        "scans": {modality: _state(scan) for modality, scan in sorted(source.scans.items())},
        "channels": list(channels),
        "reference": reference,
        "brain_extraction": options.backend,
        "keep_head": options.keep_head,
    }
    if record_file.is_file() and not options.overwrite:
        try:
            existing = read_content(_KeptRecord, record_file)
            if existing["made_from"] == made_from and all((dataset / name).is_file() for name in existing["files"]):
                return existing
        except MMCCDError as error:
            logger.warning("%s The case is imported again.", error)
    record_file.unlink(missing_ok=True)
    if len(source.scans) < 2:
        raise MMCCDError(
            f"{source.case} has only {', '.join(source.scans)}: training needs two modalities, so it is left out."
        )
    volumes, unread = {}, {}
    for modality, scan in source.scans.items():
        try:
            volumes[modality] = load_scan(scan, workspace)
        except MMCCDError as error:
            unread[modality] = f"{source.case}: {error}"
    if reference not in volumes:
        raise MMCCDError(unread.get(reference, f"{source.case} has no {reference}, onto which others are laid: left out."))
    prepared = prepare_case(source.case, volumes, reference, options.backend)
    if len(prepared.volumes) < 2:
        reasons = " ".join([*unread.values(), *prepared.left_out.values()])
        raise MMCCDError(f"{source.case} has no second modality that could be laid on its {reference}: {reasons}")
    files = _write_case(source.case, prepared, channels, options.keep_head, dataset)
    record = _record(source.case, prepared, made_from, files, {**unread, **prepared.left_out})
    for modality, warnings in record["warnings"].items():
        for warning in warnings:
            logger.warning("%s: %s: %s", source.case, modality, warning)
    save_json(record, record_file)
    return record


def _write_case(case: str, prepared: PreparedCase, channels: Sequence[str], keep_head: bool, dataset: Path) -> list[str]:
    brain = prepared.brain.mask
    files = []
    for modality, volume in prepared.volumes.items():
        name = f"imagesTr/{case}_{channels.index(modality):04d}.nii.gz"
        written = volume if keep_head else brain_only(volume, brain)
        write_volume(written.array, written.geometry, dataset / name)
        files.append(name)
    reference = next(iter(prepared.volumes.values()))
    name = f"brain_masksTr/{case}.nii.gz"
    write_volume(brain.astype(np.uint8), reference.geometry, dataset / name)
    alignment_picture(dataset / RECORDS_FOLDER / f"{case}.png", case, prepared.volumes, brain)
    return [*files, name]


def _record(
    case: str, prepared: PreparedCase, made_from: dict[str, Any], files: list[str], left_out: dict[str, str]
) -> dict[str, Any]:
    geometry = next(iter(prepared.volumes.values())).geometry
    return {
        "case": case,
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


def _describe(dataset: Path, channels: Sequence[str], records: dict[str, dict], subjects: dict[str, str]) -> None:
    """Write dataset.json."""
    missing = {case: [name for name in channels if name not in record["modalities"]] for case, record in records.items()}
    content = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": DEFAULT_LABELS,
        "numTraining": len(records),
        "file_ending": ".nii.gz",
        "subjects": {case: subjects[case] for case in records},
        MISSING_CHANNELS_KEY: {case: names for case, names in missing.items() if names},
    }
    save_json(content, dataset / DATASET_FILE)


def _subjects(dataset: Path, derived: dict[str, str]) -> dict[str, str]:
    """The person of each case: as dataset.json says, which somebody may have corrected, else as the source tells."""
    path = dataset / DATASET_FILE
    corrected = read_record(_Corrections, path).subjects if path.is_file() else {}
    return {case: str(corrected.get(case, subject)) for case, subject in derived.items()}


def _source_files(listing: SourceListing, root: Path) -> list[tuple[str, str, str]]:
    """(case, subject, file below ``root``) of NIfTI files; empty for DICOM, whose files are nameless."""
    return [
        (case.case, case.subject, scan.relative_to(root).as_posix())
        for case in listing.cases
        for scan in case.scans.values()
        if isinstance(scan, Path)
    ]


def _channels(listing: SourceListing, modalities: Sequence[str]) -> list[str]:
    there = {modality for case in listing.cases for modality in case.scans}
    channels = [modality for modality in modalities if modality in there]
    if len(channels) < 2:
        found = f"only {channels[0]} was" if channels else "none of them was"
        raise MMCCDError(
            f"Two modalities of {', '.join(modalities)} are needed to train, and {found} found: look at {SERIES_FILE} in "
            f"the dataset's folder {RECORDS_FOLDER}, and name the series by --series."
        )
    return channels


def _reference(options: ImportOptions) -> str:
    names = {contrast(modality): modality for modality in options.modalities}
    if options.reference is not None:
        if contrast(options.reference) not in names:
            raise MMCCDError(f"--reference {options.reference} is none of the imported {', '.join(options.modalities)}.")
        return names[contrast(options.reference)]
    return next((names[one] for one in REFERENCE_PREFERENCE if one in names), options.modalities[0])


def _check_place(dataset: Path) -> None:
    if (dataset / DATASET_FILE).exists() and not (dataset / RECORDS_FOLDER).is_dir():
        raise MMCCDError(f"{dataset} holds a dataset that was not imported: choose another number or name.")


def _state(scan: Path | Series) -> str:
    """A hash of what a scan is made of, by sizes and times of its files (their names may name the patient)."""
    files = [scan] if isinstance(scan, Path) else sorted(scan.files)
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        digest.update(f"{state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
