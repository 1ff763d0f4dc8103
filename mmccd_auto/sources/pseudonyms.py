"""Names for cases and people that say nothing of who they are."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.tables import write_csv
from mmccd_auto.dicom.records import Study

HASH_LETTERS = 10
CODE_LETTERS = 20
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
    """Read the secret of a key file: all its bytes, without line ends at the end.

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


@dataclass(frozen=True)
class Known:
    """The pseudonyms that a dataset has already.

    Attributes
    ----------
    by_study : pseudonym by the code of its study, see :func:`study_code`
    cases, subjects : all names that are taken
    """

    by_study: Mapping[str, Pseudonym] = field(default_factory=dict)
    cases: Collection[str] = ()
    subjects: Collection[str] = ()


def pseudonyms(studies: Sequence[Study], key: bytes | None = None, known: Known | None = None) -> list[Pseudonym]:
    """Return a pseudonym for each study.

    Parameters
    ----------
    studies : in the order in which they are numbered
    key : makes keyed hashes (HMAC-SHA256), which stay the same when the export grows; None numbers cases and people
    known : of an earlier import into the same dataset: its studies keep their numbers, and new ones get others
    """
    people = [_identity(study) for study in studies]
    if key is None:
        return _numbered(studies, people, known or Known())
    named = [
        Pseudonym(
            f"case_{_hash(key, *person, study.uid)}",
            f"subject_{_hash(key, *person)}",
        )
        for person, study in zip(people, studies, strict=True)
    ]
    return named


def _numbered(studies: Sequence[Study], people: Sequence[tuple[str, ...]], known: Known) -> list[Pseudonym]:
    """Return the numbers for cases and people, in the order of the studies, beside those that are taken."""
    before = [known.by_study.get(study_code(study)) for study in studies]
    subjects = {person: name.subject for person, name in zip(people, before, strict=True) if name is not None}
    free_cases, free_subjects = _free("case", known.cases), _free("subject", known.subjects)
    for person in people:
        if person not in subjects:
            subjects[person] = next(free_subjects)
    return [
        name if name is not None else Pseudonym(next(free_cases), subjects[person])
        for person, name in zip(people, before, strict=True)
    ]


def _free(word: str, taken: Collection[str]) -> Iterator[str]:
    """Yield numbered names after the last one that is taken."""
    numbers = [int(match[1]) for name in taken if (match := re.fullmatch(rf"{word}_(\d{{4,9}})", name))]
    return (f"{word}_{number:04d}" for number in count(max(numbers, default=0) + 1))


def study_code(study: Study) -> str:
    """Return a hash by which a study is recognised in a later import; it says nothing to those who don't have the study."""
    return hashlib.sha256(f"study\0{study.uid}".encode()).hexdigest()[:CODE_LETTERS]


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
    """Write the table that leads from cases back to people and files.

    It is the one file that names them, and only its owner may read it.

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
    """Say who it is: the number where there is one, else name and birth date, else the study alone."""
    patient = study.patient
    if patient.identifier.strip():
        return ("id", patient.identifier.strip(), patient.birth_date)
    if patient.name.strip():
        return ("name", patient.name.strip().lower(), patient.birth_date)
    return ("study", study.uid)


def _hash(key: bytes, *parts: str) -> str:
    return hmac.new(key, "\0".join(parts).encode("utf-8"), hashlib.sha256).hexdigest()[:HASH_LETTERS]
