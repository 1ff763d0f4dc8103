"""Numbers in the place of names: given once, never changed, and checked against the link."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.preprocessing.subject_numbers import NUMBERS_FILE, load_subject_numbers, trained_on


def test_numbers_stay_when_people_and_scans_come_in_later(tmp_path: Path) -> None:
    first = load_subject_numbers(tmp_path, {"m_1": "m", "z_1": "z"})
    assert first.cases == {"m_1": "subject_01_scan_1", "z_1": "subject_02_scan_1"}
    later = load_subject_numbers(tmp_path, {"a_1": "a", "m_0": "m", "m_1": "m"})
    assert later.subjects == {"m": "subject_01", "z": "subject_02", "a": "subject_03"}
    assert later.cases == first.cases | {"a_1": "subject_03_scan_1", "m_0": "subject_01_scan_2"}
    assert load_subject_numbers(tmp_path, {}) == later


def test_more_than_a_hundred_people_have_numbers_of_their_own(tmp_path: Path) -> None:
    people = {f"case_{number}": f"person_{number}" for number in range(120)}
    numbers = load_subject_numbers(tmp_path, people)
    assert len(set(numbers.cases.values())) == len(set(numbers.subjects.values())) == 120


def test_the_record_of_a_training_leads_back_to_its_cases_by_the_link_alone(tmp_path: Path) -> None:
    record = load_subject_numbers(tmp_path, {"m_1": "m", "z_1": "z", "a_1": "a"}).describe(["z_1", "a_1"])
    assert not any(name in json.dumps(record) for name in ("z_1", "a_1"))
    assert trained_on(record, tmp_path) == ("z_1", "a_1")
    load_subject_numbers(tmp_path, {"b_1": "b"})
    assert trained_on(record, tmp_path) == ("z_1", "a_1")
    with pytest.raises(MMCCDError, match="doesn't say whom this model was trained on"):
        trained_on(record, tmp_path / "elsewhere")
    (tmp_path / NUMBERS_FILE).unlink()
    load_subject_numbers(tmp_path, {"m_1": "m", "z_1": "z", "a_1": "a", "b_1": "b"})
    with pytest.raises(MMCCDError, match="doesn't say whom this model was trained on"):
        trained_on(record, tmp_path)


def test_earlier_checkpoints_hold_the_names_themselves(tmp_path: Path) -> None:
    assert trained_on({"training_cases": ["a", "b"]}, tmp_path) == ("a", "b")
    assert trained_on({}, tmp_path) == ()
