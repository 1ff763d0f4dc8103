"""Numbers in the place of names: what a model folder says of the people that it was trained on.

The link between both, subject_numbers.json, stays with the preprocessed data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.records import read_record
from mmccd_auto.plans.fingerprint import DatasetFingerprint

NUMBERS_FILE = "subject_numbers.json"
TRAINING_CASES, NUMBERED_BY = "training_cases", "numbered_by"
# So many that a list of names can't be guessed from its code.
HASH_ROUNDS = 100_000


@dataclass(frozen=True)
class SubjectNumbers:
    """subject_numbers.json: a number for each person and case, given once and never changed.

    Attributes
    ----------
    subjects : person -> "subject_03"
    cases : case -> "subject_03_scan_1"
    """

    subjects: dict[str, str]
    cases: dict[str, str]

    def extended(self, subjects: Mapping[str, str]) -> SubjectNumbers:
        """Return the same with further numbers for those of ``subjects`` (person of each case) that have none yet."""
        people, cases = dict(self.subjects), dict(self.cases)
        for person in sorted(set(subjects.values()) - set(people)):
            people[person] = f"subject_{len(people) + 1:02d}"
        scans = {number: sum(case.startswith(f"{number}_scan_") for case in cases.values()) for number in people.values()}
        for case in sorted(set(subjects) - set(cases)):
            number = people[subjects[case]]
            scans[number] += 1
            cases[case] = f"{number}_scan_{scans[number]}"
        return SubjectNumbers(people, cases)

    def describe(self, cases: Iterable[str]) -> dict[str, Any]:
        """Describe the cases that a training was on, for its record.

        Their numbers, and a code by which the link can be checked.
        """
        numbers = [self.cases[case] for case in cases]
        return {TRAINING_CASES: numbers, NUMBERED_BY: _code({self.cases[case]: case for case in cases})}

    def names(self, record: Mapping[str, Any], path: Path) -> list[str]:
        """Return the cases of a record that :meth:`describe` made.

        Raises
        ------
        MMCCDError
            If the numbers at ``path`` are not those that were given then.
        """
        by_number = {number: case for case, number in self.cases.items()}
        cases = [by_number.get(number, "") for number in record[TRAINING_CASES]]
        if _code(dict(zip(record[TRAINING_CASES], cases, strict=True))) != record[NUMBERED_BY]:
            raise MMCCDError(
                f"{path} doesn't say whom this model was trained on: put the file back that lay there at its training, or "
                "train again with --overwrite."
            )
        return cases


def load_subject_numbers(home: str | Path, subjects: Mapping[str, str]) -> SubjectNumbers:
    """Load the numbers of a dataset; those that are missing are given and written.

    Parameters
    ----------
    home : $mmccd_preprocessed/DATASET
    subjects : person of each case that needs a number

    Raises
    ------
    MMCCDError
        If the file is broken or can't be written.
    """
    path = Path(home) / NUMBERS_FILE
    found = _read(path)
    extended = found.extended(subjects)
    if extended != found:
        save_json(asdict(extended), path)
    return extended


def trained_on(record: Mapping[str, Any], home: str | Path) -> tuple[str, ...]:
    """Return the names of the cases that a checkpoint's record gives by number.

    Earlier checkpoints hold the names themselves.

    Parameters
    ----------
    record : of the checkpoint
    home : $mmccd_preprocessed/DATASET

    Raises
    ------
    MMCCDError
        If the link isn't there or has changed.
    """
    cases = tuple(record.get(TRAINING_CASES, ()))
    if not cases or NUMBERED_BY not in record:
        return cases
    path = Path(home) / NUMBERS_FILE
    return tuple(_read(path).names(record, path))


def without_names(fingerprint: DatasetFingerprint, numbers: SubjectNumbers) -> DatasetFingerprint:
    """Return a fingerprint with numbers for people and cases, and without the cases that failed."""
    cases = {
        numbers.cases[case]: replace(measured, subject=numbers.subjects[measured.subject])
        for case, measured in fingerprint.cases.items()
    }
    return replace(fingerprint, cases=dict(sorted(cases.items())), failed={})


def _read(path: Path) -> SubjectNumbers:
    if not path.is_file():
        return SubjectNumbers({}, {})
    return read_record(SubjectNumbers, path)


def _code(cases: Mapping[str, str]) -> str:
    content = json.dumps(dict(sorted(cases.items()))).encode()
    return hashlib.pbkdf2_hmac("sha256", content, NUMBERS_FILE.encode(), HASH_ROUNDS).hex()[:32]
