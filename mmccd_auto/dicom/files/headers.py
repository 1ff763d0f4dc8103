"""What the header of one DICOM file says, checked against the file's length."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataset import Dataset

from mmccd_auto.dicom.files.elements import number, text, whole_number
from mmccd_auto.dicom.files.frames import Frame, frames_of, sequence_values
from mmccd_auto.dicom.files.open_file import NotDicom, Swells, has_preamble, read_header_of
from mmccd_auto.dicom.files.pixel_checks import NO_PIXELS, SWELLING, pixel_fault
from mmccd_auto.dicom.quiet import quiet_pydicom
from mmccd_auto.dicom.records import Patient

EMPTY = "empty files (0 bytes)"
NOT_DICOM = "files that are not DICOM"
DAMAGED = "damaged DICOM files"
DICOMDIR = "DICOMDIR indexes"
BOMBS = f"DICOM files that {SWELLING}"
SECONDARY_CAPTURE = "secondary captures (screenshots)"
MR_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("4", "4.1", "4.4"))
_SECONDARY_CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"
_DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
# fmt: off
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SpecificCharacterSet", "ImageType", "StudyDate", "Modality", "SeriesDescription",
    "PatientName", "PatientID", "PatientBirthDate", "ContrastBolusAgent", "ContrastBolusAgentSequence", "ScanningSequence",
    "SequenceVariant", "ScanOptions", "MRAcquisitionType", "SequenceName", "PulseSequenceName", "EchoPulseSequence",
    "EchoPlanarPulseSequence", "InversionRecovery", "SliceThickness", "RepetitionTime", "EchoTime", "InversionTime",
    "EchoNumbers", "MagneticFieldStrength", "ProtocolName", "FlipAngle", "DiffusionBValue", "StudyInstanceUID",
    "SeriesInstanceUID", "SeriesNumber", "StudyTime", "SeriesTime", "FrameOfReferenceUID", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient",
    "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "SamplesPerPixel",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]
# fmt: on


@dataclass(frozen=True)
class Header:
    """What one file says.

    Attributes
    ----------
    values : what the facts of the series are made of, by pydicom's keyword
    fault : why its pixels can't be used, see :func:`~mmccd_auto.dicom.files.pixel_checks.pixel_fault`; None if they can
    lacks_preamble : whether the file begins with its elements, without the mark of the standard
    """

    path: Path = field(repr=False)
    patient: Patient
    study_uid: str
    study_date: str
    study_time: str
    series_uid: str
    series_number: int | None
    series_time: str
    frame_of_reference: str
    instance_uid: str
    instance_number: int | None
    frames: tuple[Frame, ...] = field(repr=False)
    values: dict[str, Any] = field(repr=False)
    fault: str | None = None
    lacks_preamble: bool = False


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
        preamble = has_preamble(file.read(132))
        file.seek(0)
        try:
            dataset, body = read_header_of(file, _TAGS)
            if not preamble and not _is_convincing(dataset):
                return Ignored(NOT_DICOM, is_dicom=False)
            found = _interpret(dataset, path, body, file, size)
            return found if preamble or isinstance(found, Ignored) else replace(found, lacks_preamble=True)
        except NotDicom:
            return Ignored(NOT_DICOM, is_dicom=False)
        except Swells:
            return Ignored(BOMBS, is_dicom=True)
        except OSError:
            raise
        except Exception:
            # pydicom raises nearly every kind of exception on damaged files, and its messages may quote the patient's name.
            return Ignored(DAMAGED, is_dicom=True) if preamble else Ignored(NOT_DICOM, is_dicom=False)


def _is_convincing(dataset: Dataset) -> bool:
    """Check whether what was read as DICOM, without the standard's mark at the beginning, is DICOM."""
    if re.fullmatch(r"1\.2\.[0-9.]+", text(dataset, "SOPClassUID")):
        return True
    return bool(text(dataset, "Modality") and number(dataset, "Rows") and number(dataset, "Columns"))


def _interpret(dataset: Dataset, path: Path, body: BinaryIO, file: BinaryIO, size: int) -> Header | Ignored:
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
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    return Header(
        path=path,
        patient=Patient(text(dataset, "PatientName"), text(dataset, "PatientID"), text(dataset, "PatientBirthDate")),
        study_uid=text(dataset, "StudyInstanceUID"),
        study_date=text(dataset, "StudyDate"),
        study_time=text(dataset, "StudyTime"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        series_number=whole_number(dataset, "SeriesNumber"),
        series_time=text(dataset, "SeriesTime"),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        instance_uid=text(dataset, "SOPInstanceUID"),
        instance_number=whole_number(dataset, "InstanceNumber"),
        frames=frames_of(dataset),
        values=sequence_values(dataset) | {"sop_class": sop_class, "transfer_syntax": syntax},
        fault=pixel_fault(dataset, syntax, body, file, size) if has_size else NO_PIXELS,
    )
