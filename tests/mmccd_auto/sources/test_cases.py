"""DICOM and files beside each other: one name, one case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dicom_writing import BASIC_TEXT_SR, CLEAN, make_object, write, write_scans

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.sources.cases import SourceListing, SourceOptions, list_source_cases


def found(source: Path, tmp_path: Path, **options) -> SourceListing:
    return list_source_cases(source, ["FLAIR", "T1"], tmp_path / "work", SourceOptions(**options))


def files(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.nii.gz").write_bytes(b"only its name is looked at")
    return folder


def two_studies(folder: Path) -> Path:
    for number, study in enumerate(("1.2.3", "1.2.4")):
        write_scans(folder / str(number), [replace(scan, study=study) for scan in CLEAN])
    return folder


@pytest.mark.parametrize("taken", ["case_0001", "CASE_0001", "Case_0002"])
def test_a_study_never_has_the_name_of_a_file(tmp_path, taken):
    two_studies(files(tmp_path / "in", f"{taken}_FLAIR", f"{taken}_T1"))
    listing = found(tmp_path / "in", tmp_path)
    names = [case.case for case in listing.cases]
    assert len({name.casefold() for name in names}) == 3
    assert taken in names
    assert all(case.error is None for case in listing.cases)
    assert {name.case for name in listing.names} == set(names) - {taken}
    assert {row.case for row in listing.series} == set(names) - {taken}
    assert any("because a file has that name" in note for note in listing.notes)


def test_people_have_names_of_their_own_too(tmp_path):
    write_scans(files(tmp_path / "in", "subject_0001_FLAIR"), CLEAN)
    assert len({case.subject for case in found(tmp_path / "in", tmp_path).cases}) == 2


def test_keyed_names_that_a_file_has_are_refused(tmp_path):
    write_scans(tmp_path / "in", CLEAN)
    key = b"a key of sixteen"
    (study,) = found(tmp_path / "in", tmp_path, key=key).cases
    files(tmp_path / "in", f"{study.case}_FLAIR")
    cases = found(tmp_path / "in", tmp_path, key=key).cases
    assert [case.case for case in cases if case.error is None] == [study.case]
    assert len({case.case for case in cases}) == 2


def test_a_stray_image_and_a_report_beside_files_stop_nothing(tmp_path):
    source = files(tmp_path / "in", "anna_FLAIR", "anna_T1")
    write(make_object(CLEAN[0], BASIC_TEXT_SR, "1.2.3.4"), source / "report.dcm")
    write_scans(source / "stray", [replace(CLEAN[0], leave_out=frozenset(range(1, CLEAN[0].slices)))])
    (source / "report.pdf").write_bytes(b"%PDF-1.4")
    (source / "notes.txt").write_text("x")
    listing = found(source, tmp_path)
    assert [case.case for case in listing.cases] == ["anna"]
    assert any("no usable series" in note for note in listing.notes)


def test_a_report_alone_beside_files_is_counted(tmp_path):
    source = files(tmp_path / "in", "anna_FLAIR", "anna_T1")
    write(make_object(CLEAN[0], BASIC_TEXT_SR, "1.2.3.4"), source / "report.dcm")
    listing = found(source, tmp_path)
    assert [case.case for case in listing.cases] == ["anna"]
    assert len(listing.notes) == 1


def test_a_name_that_is_too_long_fails_before_any_work(tmp_path):
    source = files(tmp_path / "in", f"{'n' * 235}_FLAIR", "ok_FLAIR")
    bad, good = found(source, tmp_path, output=tmp_path / "out").cases
    assert good.error is None
    assert "too long" in bad.error
    assert bad.case.startswith("n" * 40)
    assert len(bad.case) < 60


def test_left_out_files_are_in_the_table_and_the_notes(tmp_path):
    listing = found(files(tmp_path / "in", "anna_FLAIR", "anna_T1", "anna_T1_seg"), tmp_path)
    assert [row.why for row in listing.table if row.kind == "left out"] == ["a label or mask by its name (seg)"]
    assert listing.notes == ("Left out: 1 x a label or mask by its name (seg) (anna_T1_seg.nii.gz).",)


def test_nothing_that_can_be_used_says_what_is_there(tmp_path):
    with pytest.raises(MMCCDError, match="a label or mask"):
        found(files(tmp_path / "in", "anna_seg"), tmp_path)
