"""Names for cases and people that tell nothing of who they are."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.core.tables import write_csv
from mmccd_auto.dicom.records import Study
from mmccd_auto.errors import MMCCDError

HASH_LETTERS = 10
LINK_COLUMNS = ("case", "subject", "patient_name", "patient_id", "birth_date", "study_date", "study_uid", "source_file")


@dataclass(frozen=True)
class Pseudonym:
    """What a study is called.

    Attributes
    ----------
    case : "case_0001", or "case_" and a keyed hash of patient and study
    subject : "subject_0001", or "subject_" and a keyed hash of the patient: the same for all studies of one person
    """

    case: str
    subject: str


def read_key(path: str | Path) -> bytes:
    """The secret of a key file: all its bytes, without line ends at the end.

    Raises
    ------
    MMCCDError
        If the file can't be read or holds less than 16 bytes, which can be guessed.
    """
    try:
        key = Path(path).read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise MMCCDError(f"{path} can't be read as a key ({error.strerror or error}): give a file.") from error
    if len(key) < 16:
        raise MMCCDError(f"{path} holds a key of {len(key)} bytes, which can be guessed: give 16 or more.")
    return key


def pseudonyms(studies: Sequence[Study], key: bytes | None = None) -> list[Pseudonym]:
    """A pseudonym for each study.

    Parameters
    ----------
    studies : in the order in which they are numbered
    key : makes keyed hashes (HMAC-SHA256), which stay the same when the export grows; None numbers cases and people
    """
    people = [_identity(study) for study in studies]
    if key is None:
        order = list(dict.fromkeys(people))
        return [
            Pseudonym(f"case_{number:04d}", f"subject_{order.index(person) + 1:04d}")
            for number, person in enumerate(people, start=1)
        ]
    named = [
        Pseudonym(
            f"case_{_hash(key, *person, study.uid)}",
            f"subject_{_hash(key, *person)}",
        )
        for person, study in zip(people, studies, strict=True)
    ]
    return named


def check_link_place(path: str | Path, handed_on: str | Path) -> None:
    """Refuse a table of identities that would lie in a folder that is handed on.

    Parameters
    ----------
    path : of the table
    handed_on : the dataset's folder, or that of the maps

    Raises
    ------
    MMCCDError
        If it would.
    """
    if Path(path).resolve().is_relative_to(Path(handed_on).resolve()):
        raise MMCCDError(
            f"--keep_link {path} lies in {handed_on}, which may be handed on, and this table names people: choose a place "
            "outside of it."
        )


def write_link(
    path: str | Path,
    studies: Sequence[Study] = (),
    named: Sequence[Pseudonym] = (),
    files: Sequence[tuple[str, str, str]] = (),
) -> None:
    """Write the table that leads from cases back to people and files. It is the one file that names them, and only its
    owner may read it.

    Parameters
    ----------
    path : of the CSV
    studies, named : of a DICOM export, and their pseudonyms
    files : (case, subject, source) for each NIfTI file, the source below the input folder
    """
    patients = [
        (*(name.case, name.subject, study.patient.name, study.patient.identifier, study.patient.birth_date), study.date)
        + (study.uid, None)
        for study, name in zip(studies, named, strict=True)
    ]
    sources = [(case, subject, None, None, None, None, None, source) for case, subject, source in files]
    write_csv(path, LINK_COLUMNS, [*patients, *sources], private=True)


def _identity(study: Study) -> tuple[str, ...]:
    """Who it is: the number where there is one, else name and birth date, else the study alone."""
    patient = study.patient
    if patient.identifier.strip():
        return ("id", patient.identifier.strip(), patient.birth_date)
    if patient.name.strip():
        return ("name", patient.name.strip().lower(), patient.birth_date)
    return ("study", study.uid)


def _hash(key: bytes, *parts: str) -> str:
    return hmac.new(key, "\0".join(parts).encode("utf-8"), hashlib.sha256).hexdigest()[:HASH_LETTERS]
