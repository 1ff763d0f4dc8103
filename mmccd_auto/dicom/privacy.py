"""Taking a patient's name and number out of free text."""

from __future__ import annotations

import re

from mmccd_auto.dicom.records import Patient

REMOVED = "[removed]"
SHORTEST_WORD = 2
SHORTEST_PART_OF_A_WORD = 4
# Phantoms and volunteers are sometimes named after the scan; these words name nobody.
_HARMLESS = frozenset(
    {"mr", "mri", "mrt", "head", "brain", "t1", "t1w", "t2", "t2w", "flair", "pd", "dwi", "adc", "swi", "tse", "tra"}
    | {"ax", "axial", "sag", "sagittal", "cor", "coronal", "test", "phantom"}
)


def patient_words(patient: Patient) -> tuple[str, ...]:
    """Return the words, longest first and in small letters, that may not be shown: name parts, number and birth date."""
    found = {patient.identifier.strip().lower(), *_birth_dates(patient.birth_date)}
    for text in (patient.name, patient.identifier):
        found.update(re.split(r"[\W_]+", text.lower()))
    words = {word for word in found if len(word) >= SHORTEST_WORD and word not in _HARMLESS}
    return tuple(sorted(words, key=lambda word: (-len(word), word)))


def without_patient(text: str, words: tuple[str, ...]) -> str:
    """Return ``text`` with every one of ``words`` replaced, and without control characters.

    Words of four letters or more are replaced inside other words, too; shorter ones only where they stand alone.
    """
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    for word in words:
        pattern = re.escape(word)
        if len(word) < SHORTEST_PART_OF_A_WORD:
            pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"
        text = re.sub(pattern, REMOVED, text, flags=re.IGNORECASE)
    return text


def _birth_dates(date: str) -> set[str]:
    if not re.fullmatch(r"\d{8}", date):
        return {date.lower()}
    year, month, day = date[:4], date[4:6], date[6:]
    return {
        date,
        f"{day}{month}{year}",
        f"{year}-{month}-{day}",
        f"{day}.{month}.{year}",
        f"{month}/{day}/{year}",
        f"{day}/{month}/{year}",
    }
