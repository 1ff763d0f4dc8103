"""What a trained model says of people, with numbers in the place of names, for models that travel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from mmccd_auto.inference.scores.calibration import Calibration
from mmccd_auto.plans.fingerprint import DatasetFingerprint
from mmccd_auto.preprocessing.subject_numbers import SubjectNumbers, without_names

_NUMBER = re.compile(r"subject_[0-9]{2,}")
_SCAN_NUMBER = re.compile(r"subject_[0-9]{2,}_scan_[0-9]+")


def nameless_calibrations(calibrations: Mapping[str, Calibration]) -> dict[str, Calibration]:
    """Give people numbers where a calibration of an earlier version names them.

    Parameters
    ----------
    calibrations : by fold; one person has one number in all of them
    """
    parts = [part for one in calibrations.values() for part in (one, *one.further.values())]
    people = sorted({subject.subject for one in parts for subject in one.subjects})
    if all(_NUMBER.fullmatch(name) for name in people):
        return dict(calibrations)
    numbers = {name: f"subject_{place:02d}" for place, name in enumerate(people, start=1)}

    def numbered(one: Calibration) -> Calibration:
        return replace(one, subjects=tuple(replace(subject, subject=numbers[subject.subject]) for subject in one.subjects))

    return {
        fold: replace(numbered(one), further={subset: numbered(part) for subset, part in one.further.items()})
        for fold, one in calibrations.items()
    }


def nameless_fingerprint(fingerprint: DatasetFingerprint) -> DatasetFingerprint:
    """Give people and scans numbers where a fingerprint names them, and leave out those that failed."""
    people = {case: measured.subject for case, measured in fingerprint.cases.items()}
    numbered = all(_SCAN_NUMBER.fullmatch(case) and _NUMBER.fullmatch(subject) for case, subject in people.items())
    numbers = SubjectNumbers({name: name for name in people.values()}, {case: case for case in people})
    if not numbered:
        numbers = SubjectNumbers({}, {}).extended(people)
    fingerprint = without_names(fingerprint, numbers)
    # Its summary made again: nothing but figures.
    return DatasetFingerprint.of_cases(fingerprint.dataset, fingerprint.modalities, fingerprint.cases)
