"""What arrives from outside: whose it is and what it is, read without trusting it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.files.elements import text
from mmccd_auto.dicom.files.headers import MR_CLASSES
from mmccd_auto.dicom.files.open_file import NotDicom, Swells, read_header_of
from mmccd_auto.dicom.quiet import quiet_pydicom
from mmccd_auto.pacs.rules import StudyRules
from mmccd_auto.pacs.uids import checked_uid

_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "BodyPartExamined"),
    "SpecificCharacterSet",
]


@dataclass(frozen=True)
class Received:
    """What the header of an object says, its numbers checked.

    Attributes
    ----------
    study, series, instance, sop_class : UIDs
    modality, body_part : empty where it doesn't say them
    """

    study: str
    series: str
    instance: str
    sop_class: str
    modality: str = field(repr=False)
    body_part: str = field(repr=False)

    def is_wanted(self, rules: StudyRules) -> bool:
        """Whether it is an image of magnetic resonance that is worked on."""
        return self.sop_class in MR_CLASSES and rules.wants_series(self.modality, self.body_part)


def read_received(file: BinaryIO) -> Received:
    """Read the header of an object; no more of it is unpacked than a header can have, and no pixels are read.

    Raises
    ------
    MMCCDError
        If it is no DICOM object, or its UIDs are missing or malformed.
    """
    try:
        with quiet_pydicom():
            header, _ = read_header_of(file, _TAGS)
            found = {name: text(header, name) for name in _TAGS}
    except (NotDicom, Swells) as error:
        raise MMCCDError("What arrived is no DICOM object that can be read: look at who sends it.") from error
    except Exception as error:
        # pydicom raises nearly every kind of exception on damaged files, and its messages may quote the patient's name.
        raise MMCCDError("What arrived is a damaged DICOM object: have it sent again.") from error
    return Received(
        study=checked_uid(found["StudyInstanceUID"], "study"),
        series=checked_uid(found["SeriesInstanceUID"], "series"),
        instance=checked_uid(found["SOPInstanceUID"], "image"),
        sop_class=checked_uid(found["SOPClassUID"], "object's kind"),
        modality=found["Modality"],
        body_part=found["BodyPartExamined"],
    )


def read_received_file(path: Path) -> Received:
    """Read the header of a file as :func:`read_received` does."""
    with path.open("rb") as file:
        return read_received(file)


def is_wanted_file(path: Path, study: str, rules: StudyRules) -> bool:
    """Whether a file is an image that is worked on.

    Raises
    ------
    MMCCDError
        If it can't be read, or belongs to another study than ``study``.
    """
    received = read_received_file(path)
    if received.study != study:
        raise MMCCDError("An image that arrived belongs to another study than it was asked for: look at the archive.")
    return received.is_wanted(rules)
