"""Under whom a DICOM object is filed: with the patient, or under a pseudonym and numbers that lead back to nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid

from mmccd_auto.core.errors import MMCCDError

LONGEST_TEXT = 64
_BLOCK = 2**20


@dataclass(frozen=True)
class DicomIdentity:
    """Under whom an object is filed in place of the patient.

    Attributes
    ----------
    patient_id : the case's pseudonym
    patient_name : the pseudonym, too, where empty
    salt : what new numbers are made of beside the old ones, such as the key of the pseudonyms; where empty, the content
        of the images
    """

    patient_id: str
    patient_name: str = ""
    salt: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for text in (self.patient_id, self.patient_name):
            if len(text) > LONGEST_TEXT or "\\" in text or not text.isprintable():
                raise MMCCDError(
                    f"The pseudonym {text!r} can't be written to DICOM: give at most {LONGEST_TEXT} printable characters, "
                    "none of them a backslash."
                )
        if not self.patient_id.strip():
            raise MMCCDError("The pseudonym for DICOM is empty: give the case a name.")


def renumber(images: Sequence[Dataset], files: Sequence[Path], identity: DicomIdentity) -> None:
    """Replace the UIDs of study, series, frame of reference and images, in place.

    An archive would show a study under two people if its number stood in an object of another patient. The new numbers are
    hashes of the pseudonym, the salt and the old numbers: equal for all objects of a scan and in every run, other ones under
    another pseudonym, and without the salt nobody can find the old ones by them. Images of one scan get one study, one
    series and one frame of reference, also where their own are missing or differ, and each gets a number of its own.

    Parameters
    ----------
    images : headers of one scan
    files : that they were read from

    Raises
    ------
    MMCCDError
        If a file can't be read.
    """
    salt = identity.salt or _content_of(files)

    def number(kind: str, *old: str) -> UID:
        return generate_uid(entropy_srcs=["mmccd_auto", kind, identity.patient_id, salt, *old])

    def shared(keyword: str) -> list[str]:
        return sorted({str(image.get(keyword) or "") for image in images})

    study, series = shared("StudyInstanceUID"), shared("SeriesInstanceUID")
    frame = shared("FrameOfReferenceUID")
    for place, image in enumerate(images):
        old = str(image.get("SOPInstanceUID") or "")
        is_unique = old and sum(str(other.get("SOPInstanceUID") or "") == old for other in images) == 1
        image.StudyInstanceUID = number("study", *study)
        image.SeriesInstanceUID = number("series", *study, *series)
        image.FrameOfReferenceUID = number("frame of reference", *study, *frame)
        image.SOPInstanceUID = number("image", old, *([] if is_unique else [_place_of(image), str(place)]))


def _place_of(image: Dataset) -> str:
    return str(image.get("ImagePositionPatient") or "")


def _content_of(files: Sequence[Path]) -> str:
    """Return a hash of the content of all images, by another algorithm than the one whose results CASE.json shows."""
    total = hashlib.blake2b(person=b"mmccd_uids")
    try:
        for content in sorted(_hash(path) for path in files):
            total.update(content)
    except OSError as error:
        # Not chained: the system's message names the file.
        raise MMCCDError(f"An image of the scan can't be read any more ({error.strerror}): give the export again.") from None
    return total.hexdigest()


def _hash(path: Path) -> bytes:
    content = hashlib.blake2b(person=b"mmccd_uids")
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            content.update(block)
    return content.digest()
