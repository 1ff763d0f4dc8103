"""Pseudonyms tell nothing, last, and keep one person's studies together."""

from __future__ import annotations

import csv
import os
import stat
from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.records import Patient, Study
from mmccd_auto.sources.pseudonyms import check_link_place, pseudonyms, read_key, write_link

ANNA, CARL = Patient("ZZNAME^Anna", "ZZID-1", "19510203"), Patient("ZZNAME^Carl", "ZZID-2", "19600101")
STUDIES = [Study(ANNA, "1.2.3", "20200101", ()), Study(CARL, "1.2.4", "20200102", ()), Study(ANNA, "1.2.5", "20210101", ())]
KEY = b"0123456789abcdef"


def test_numbered_names_keep_a_person_together() -> None:
    found = pseudonyms(STUDIES)
    assert [one.case for one in found] == ["case_0001", "case_0002", "case_0003"]
    assert [one.subject for one in found] == ["subject_0001", "subject_0002", "subject_0001"]


def test_keyed_names_stay_when_the_export_grows_and_change_with_the_key() -> None:
    all_of_them, one = pseudonyms(STUDIES, KEY), pseudonyms(STUDIES[2:], KEY)
    assert one == all_of_them[2:]
    assert all_of_them[0].subject == all_of_them[2].subject != all_of_them[1].subject
    assert len({name.case for name in all_of_them}) == 3
    assert pseudonyms(STUDIES, KEY + b"x")[0].case != all_of_them[0].case


def test_people_without_any_identity_are_not_thrown_together() -> None:
    nobody = [Study(Patient(), "1.2.6", "", ()), Study(Patient(), "1.2.7", "", ())]
    for key in (None, KEY):
        assert len({one.subject for one in pseudonyms(nobody, key)}) == 2


def test_the_link_leads_back(tmp_path: Path) -> None:
    names = pseudonyms(STUDIES)
    write_link(tmp_path / "link.csv", STUDIES, names)
    with (tmp_path / "link.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["patient_id"], row["study_uid"]) for row in rows] == [
        ("case_0001", "ZZID-1", "1.2.3"),
        ("case_0002", "ZZID-2", "1.2.4"),
        ("case_0003", "ZZID-1", "1.2.5"),
    ]


def test_a_key_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short\n")
    with pytest.raises(MMCCDError, match="can be guessed"):
        read_key(tmp_path / "key")
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert read_key(tmp_path / "key") == KEY
    with pytest.raises(MMCCDError, match="can't be read"):
        read_key(tmp_path / "none")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_only_the_owner_reads_the_link_and_no_name_becomes_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "link.csv"
    path.write_text("of an earlier import, readable by all")
    evil = Study(Patient("=HYPERLINK(1)", "a\rb", "19600101"), "1.2.8", "20200101", ())
    write_link(path, [evil], pseudonyms([evil]), [("visit1", "visit1", "a/visit1_FLAIR.nii.gz")])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open(encoding="utf-8", newline="") as file:
        person, scan = csv.DictReader(file)
    assert (person["patient_name"], person["patient_id"]) == ("'=HYPERLINK(1)", "a b")
    assert (scan["case"], scan["source_file"], scan["patient_id"]) == ("visit1", "a/visit1_FLAIR.nii.gz", "")


@pytest.mark.parametrize("place", ["link.csv", "import/link.csv", "../Dataset007_X/link.csv"])
def test_the_link_never_lies_in_what_is_handed_on(tmp_path: Path, place: str) -> None:
    with pytest.raises(MMCCDError, match="names people"):
        check_link_place(tmp_path / "Dataset007_X" / place, tmp_path / "Dataset007_X")
    check_link_place(tmp_path / "Dataset007_Xlink.csv", tmp_path / "Dataset007_X")
