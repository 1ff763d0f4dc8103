"""What the header of one DICOM file tells, checked against the file's length."""

from __future__ import annotations

import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.config import logger as pydicom_logger
from pydicom.config import settings
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mmccd_auto.dicom.elements import number, text, whole_number
from mmccd_auto.dicom.frames import Frame, frames_of, sequence_values
from mmccd_auto.dicom.records import Patient

EMPTY = "empty files (0 bytes)"
NOT_DICOM = "files that are not DICOM"
DAMAGED = "damaged DICOM files"
DICOMDIR = "DICOMDIR indexes"
SECONDARY_CAPTURE = "secondary captures (screenshots)"
MR_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("4", "4.1", "4.4"))
_SECONDARY_CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"
_DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
NO_PIXELS = "without pixels"
TRUNCATED = "truncated"
_PIXEL_TAGS = ((0x7FE0, 0x0010), (0x7FE0, 0x0008), (0x7FE0, 0x0009))
_FRAGMENT, _END_OF_FRAGMENTS = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_UNDEFINED = 0xFFFFFFFF
# fmt: off
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SpecificCharacterSet", "ImageType", "StudyDate", "Modality", "SeriesDescription",
    "PatientName", "PatientID", "PatientBirthDate", "ContrastBolusAgent", "ContrastBolusAgentSequence", "ScanningSequence",
    "SequenceVariant", "ScanOptions", "MRAcquisitionType", "SequenceName", "PulseSequenceName", "EchoPulseSequence",
    "EchoPlanarPulseSequence", "InversionRecovery", "SliceThickness", "RepetitionTime", "EchoTime", "InversionTime",
    "EchoNumbers", "MagneticFieldStrength", "ProtocolName", "FlipAngle", "DiffusionBValue", "StudyInstanceUID",
    "SeriesInstanceUID", "SeriesNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "SamplesPerPixel",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]
# fmt: on


@dataclass(frozen=True)
class Header:
    """What one file tells.

    Attributes
    ----------
    values : what the facts of the series are made of, by pydicom's keyword
    fault : why its pixels can't be used, :data:`NO_PIXELS` or :data:`TRUNCATED`; None if they can
    """

    path: Path = field(repr=False)
    patient: Patient
    study_uid: str
    study_date: str
    series_uid: str
    series_number: int | None
    instance_uid: str
    frames: tuple[Frame, ...] = field(repr=False)
    values: dict[str, Any] = field(repr=False)
    fault: str | None = None


@dataclass(frozen=True)
class Ignored:
    """A file that is no image to work with, and why, in words that fit a count of such files."""

    reason: str
    is_dicom: bool


def read_header(path: Path) -> Header | Ignored:
    """Read a file's header, whatever the file is.

    Raises
    ------
    OSError
        If it can't be opened.
    """
    size = path.stat().st_size
    if size == 0:
        return Ignored(EMPTY, is_dicom=False)
    with path.open("rb") as file, quiet_pydicom():
        if file.read(132)[128:] != b"DICM":
            return Ignored(NOT_DICOM, is_dicom=False)
        file.seek(0)
        try:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
            return _interpret(dataset, path, file, size)
        except OSError:
            raise
        except Exception:
            # pydicom raises nearly every kind of exception on damaged files, and its messages may quote the patient's name.
            return Ignored(DAMAGED, is_dicom=True)


def _interpret(dataset: Dataset, path: Path, file: BinaryIO, size: int) -> Header | Ignored:
    sop_class = text(dataset, "SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    if sop_class == _DICOMDIR_CLASS:
        return Ignored(DICOMDIR, is_dicom=True)
    if sop_class == _SECONDARY_CAPTURE_CLASS or sop_class.startswith(f"{_SECONDARY_CAPTURE_CLASS}."):
        return Ignored(SECONDARY_CAPTURE, is_dicom=True)
    has_size = bool(number(dataset, "Rows") and number(dataset, "Columns"))
    if sop_class not in MR_CLASSES and not has_size:
        modality = text(dataset, "Modality").upper()
        kind = modality if re.fullmatch("[A-Z]{2,4}", modality) else "of an unknown kind"
        return Ignored(f"DICOM objects that are no images ({kind})", is_dicom=True)
    if not text(dataset, "StudyInstanceUID") and not text(dataset, "PatientID"):
        return Ignored(DAMAGED, is_dicom=True)
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    return Header(
        path=path,
        patient=Patient(text(dataset, "PatientName"), text(dataset, "PatientID"), text(dataset, "PatientBirthDate")),
        study_uid=text(dataset, "StudyInstanceUID"),
        study_date=text(dataset, "StudyDate"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        series_number=whole_number(dataset, "SeriesNumber"),
        instance_uid=text(dataset, "SOPInstanceUID"),
        frames=frames_of(dataset),
        values=sequence_values(dataset) | {"sop_class": sop_class, "transfer_syntax": syntax},
        fault=_pixel_fault(dataset, syntax, file, size) if has_size else NO_PIXELS,
    )


def _pixel_fault(dataset: Dataset, syntax: str, file: BinaryIO, size: int) -> str | None:
    """What is wrong with the pixels, judged by their announced length alone.

    ``file`` stands where pydicom stopped: at the element that holds the pixels, if there is one.
    """
    if syntax == DeflatedExplicitVRLittleEndian:
        return _deflated_fault(dataset, file)
    head = file.read(12)
    is_implicit, is_little_endian = dataset.original_encoding
    order = "<" if is_little_endian else ">"
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) not in _PIXEL_TAGS:
        return NO_PIXELS
    if is_implicit:
        length = struct.unpack(f"{order}I", head[4:8])[0]
        file.seek(8 - len(head), os.SEEK_CUR)
    elif len(head) == 12:
        length = struct.unpack(f"{order}I", head[8:12])[0]
    else:
        return TRUNCATED
    if length == _UNDEFINED:
        return None if _ends_properly(file, size) else TRUNCATED
    return TRUNCATED if length < _expected_bytes(dataset) or file.tell() + length > size else None


def _deflated_fault(dataset: Dataset, file: BinaryIO) -> str | None:
    file.seek(0)
    pixels = pydicom.dcmread(file, specific_tags=["PixelData"]).get("PixelData")
    if pixels is None:
        return NO_PIXELS
    return TRUNCATED if len(pixels) < _expected_bytes(dataset) else None


def _expected_bytes(dataset: Dataset) -> float:
    frames = number(dataset, "NumberOfFrames") or 1
    bits = number(dataset, "BitsAllocated") or 8
    return frames * (number(dataset, "Rows") or 0) * (number(dataset, "Columns") or 0) * bits / 8


def _ends_properly(file: BinaryIO, size: int) -> bool:
    """Whether compressed pixels are complete: their fragments one after another up to the mark of the end."""
    while True:
        head = file.read(8)
        if len(head) < 8:
            return False
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) == _END_OF_FRAGMENTS:
            return True
        if (group, element) != _FRAGMENT or file.tell() + length > size:
            return False
        file.seek(length, os.SEEK_CUR)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from warning of odd values: its warnings quote them, and they may be the patient's name."""
    mode = settings.reading_validation_mode
    disabled = pydicom_logger.disabled
    settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom_logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode = mode
        pydicom_logger.disabled = disabled
