"""Walking through folders and archives, and what is told of a series."""

from __future__ import annotations

import copy
import os
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import CLEAN, FLAIR, MPRAGE, T1, make_enhanced, make_images, with_tags, write, write_scans

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.files import gather_files, headers
from mmccd_auto.dicom.privacy import patient_words, without_patient
from mmccd_auto.dicom.records import Patient, SequenceFacts
from mmccd_auto.dicom.series.choose_series import choose_series
from mmccd_auto.dicom.series.find_series import keep_series_only, read_export


def test_the_facts_of_a_series(tmp_path: Path) -> None:
    series = (
        read_export(write_scans(tmp_path / "in", [with_tags(FLAIR, ContrastBolusAgent="Gd")]), tmp_path).studies[0].series
    )
    facts = series[0].facts
    assert series[0].label == "series 401 (sT2W/FLAIR)"
    assert (facts.echo_time, facts.repetition_time, facts.inversion_time, facts.flip_angle) == (100, 9000, 2500, 90)
    assert (facts.scanning_sequence, facts.contrast_agent) == (("SE", "IR"), True)
    assert (facts.rows, facts.columns, facts.pixel_spacing, facts.images) == (48, 40, (4.0, 4.0), 14)
    assert (facts.orientation, facts.slice_spacing, facts.slice_thickness) == ("axial", pytest.approx(10), 10)
    assert (facts.modality, facts.mr_acquisition_type, facts.magnetic_field_strength) == ("MR", "2D", 1.5)


@pytest.mark.parametrize(
    ("noted", "agent"),
    [("Gd", True), ("GADOVIST 7.5 ml", True), ("", False), ("no contrast", False), ("ohne KM", False), ("0 ml", False)]
    + [("N/A", False), ("NONE", False), ("Nordic Gd", True)],
)
def test_an_agent_counts_unless_it_is_noted_as_absent(tmp_path: Path, noted: str, agent: bool) -> None:
    export = read_export(write_scans(tmp_path / "in", [with_tags(T1, ContrastBolusAgent=noted)]), tmp_path)
    assert export.studies[0].series[0].facts.contrast_agent == agent


def test_enhanced_files_tell_the_same(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(make_enhanced(FLAIR), tmp_path / "in" / "a")
    facts = read_export(tmp_path / "in", tmp_path).studies[0].series[0].facts
    assert (facts.echo_time, facts.repetition_time, facts.inversion_time, facts.flip_angle) == (100, 9000, 2500, 90)
    assert facts.scanning_sequence == ("SE", "IR")
    assert (facts.images, facts.orientation, facts.slice_spacing) == (14, "axial", pytest.approx(10))


def test_interleaved_echoes_become_two_series(tmp_path: Path) -> None:
    for echo in (20, 100):
        write_scans(tmp_path / "in" / str(echo), [with_tags(T1, EchoTime=echo)])
    series = read_export(tmp_path / "in", tmp_path).studies[0].series
    assert [item.label for item in series] == [f"series 601 (T1/SE, echo time {echo} ms)" for echo in (20, 100)]
    assert [len(item.files) for item in series] == [14, 14]
    assert [item.facts.echo_time for item in series] == [20, 100]


def test_echoes_in_files_of_their_own_become_two_series(tmp_path: Path) -> None:
    for echo in (20, 100):
        image = make_enhanced(with_tags(T1, EchoTime=echo))
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.{echo}"
        write(image, tmp_path / "in" / str(echo))
    series = read_export(tmp_path / "in", tmp_path).studies[0].series
    assert [(item.facts.echo_time, item.problem, len(item.files)) for item in series] == [(20, None, 1), (100, None, 1)]


def test_files_are_sorted_along_the_normal(tmp_path: Path) -> None:
    series = read_export(write_scans(tmp_path / "in", [MPRAGE]), tmp_path).studies[0].series[0]
    names = [path.name for path in series.files]
    assert names in (sorted(names), sorted(names, reverse=True))
    assert series.facts.orientation == "sagittal"


def test_an_export_without_dicom_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scan.nii.gz").write_bytes(b"x" * 200)
    export = read_export(tmp_path / "in", tmp_path / "work")
    assert not export.is_dicom
    assert export.ignored == {headers.NOT_DICOM: 1}


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(MMCCDError, match="does not exist") as caught:
        read_export(tmp_path / "ZZNAME", tmp_path)
    assert "ZZNAME" not in str(caught.value)


def test_a_single_file_and_a_single_archive_without_ending(tmp_path: Path) -> None:
    write(make_images(FLAIR)[0], tmp_path / "one")
    assert len(read_export(tmp_path / "one", tmp_path / "work").studies) == 1
    with zipfile.ZipFile(tmp_path / "packed", "w") as archive:
        archive.write(tmp_path / "one")
    assert len(read_export(tmp_path / "packed", tmp_path / "work").studies) == 1


def test_files_and_folders_that_cannot_be_opened_are_counted(tmp_path: Path, monkeypatch) -> None:
    write_scans(tmp_path / "in", CLEAN)
    read = headers.read_header

    def refuse(path: Path):
        if path.name == "IM0003.dcm":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr("mmccd_auto.dicom.series.find_series.read_header", refuse)
    export = read_export(tmp_path / "in", tmp_path / "work")
    assert export.ignored == {gather_files.UNREADABLE_FILE: 3}
    assert any("files that can't be opened (3)" in problem for problem in export.problems)
    assert all("lacks 1 slice" in series.problem for series in export.studies[0].series)


def test_special_files_are_not_opened(tmp_path: Path) -> None:
    write_scans(tmp_path / "in", [FLAIR])
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "in" / "pipe")
    assert read_export(tmp_path / "in", tmp_path / "work").ignored == {gather_files.NOT_A_FILE: 1}


def test_the_workspace_is_not_searched(tmp_path: Path) -> None:
    write_scans(tmp_path, [FLAIR])
    write_scans(tmp_path / "work", [T1])
    assert len(read_export(tmp_path, tmp_path / "work").studies[0].series) == 1


def archive_with(path: Path, name: str, content: bytes, mode: int = 0) -> Path:
    """A zip archive of one entry."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [("../x", 0), ("a/../../x", 0), ("/etc/x", 0), ("C:/x", 0), ("..\\x", 0), ("link", 0o120777)],
)
def test_dangerous_archives_are_refused(tmp_path: Path, name: str, mode: int) -> None:
    export = read_export(archive_with(tmp_path / "a.zip", name, b"/etc/passwd", mode), tmp_path / "work")
    assert export.studies == ()
    assert len(export.problems) == 1
    assert "may be an attack" in export.problems[0]
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())


def test_an_archive_that_swells_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(gather_files, "SMALLEST_BOMB", 2**20)
    export = read_export(archive_with(tmp_path / "a.zip", "zeros", bytes(2**22)), tmp_path / "work")
    assert "200 times larger" in export.problems[0]


def test_an_entry_that_swells_among_others_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(gather_files, "SMALLEST_BOMB", 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("noise", np.random.default_rng(0).bytes(2**18), zipfile.ZIP_STORED)
        archive.writestr("zeros", bytes(2**22), zipfile.ZIP_DEFLATED)
    export = read_export(tmp_path / "a.zip", tmp_path / "work")
    assert "200 times larger" in export.problems[0]


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", np.random.default_rng(0).bytes(2**12))
        entry = archive.infolist()[0]
        for name in ("y1", "y2"):
            double = copy.copy(entry)
            double.filename = name
            archive.filelist.append(double)
        archive._didModify = True
    export = read_export(tmp_path / "a.zip", tmp_path / "work")
    assert "share their bytes" in export.problems[0]


def test_a_disk_that_is_too_full_for_an_archive_is_named_as_such(tmp_path: Path, monkeypatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gather_files, "_extract", fill)
    export = read_export(archive_with(tmp_path / "a.zip", "x", b"x"), tmp_path / "work")
    assert "the temporary folder's disk is full" in export.problems[0]


def test_only_what_is_used_of_an_archive_stays_unpacked(tmp_path: Path) -> None:
    write_scans(tmp_path / "raw", CLEAN)
    (tmp_path / "raw" / "notes.txt").write_text("ZZNAME")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted((tmp_path / "raw").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "raw"))
    (study,) = read_export(tmp_path / "a.zip", tmp_path / "work").studies
    assert len(gather_files.unpacked_files(tmp_path / "work")) == 42
    flair = [series for series in study.series if series.number == 401]
    keep_series_only(tmp_path / "work", flair)
    assert sorted(gather_files.unpacked_files(tmp_path / "work")) == sorted(flair[0].files)


def test_an_archive_gives_files_of_the_same_times_whenever_it_is_unpacked(tmp_path: Path) -> None:
    write_scans(tmp_path / "raw", CLEAN)
    times = [(2026, 2, 28, 12, 30, 58), (1980, 0, 0, 0, 0, 0)]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, path in enumerate(sorted((tmp_path / "raw").rglob("*.dcm"))):
            archive.writestr(zipfile.ZipInfo(f"{number}.dcm", times[number % 2]), path.read_bytes())
    for folder in ("first", "second"):
        read_export(tmp_path / "a.zip", tmp_path / folder)
        found = [path.stat().st_mtime for path in gather_files.unpacked_files(tmp_path / folder)]
        assert sorted(found) == [0] * 21 + [datetime(2026, 2, 28, 12, 30, 58, tzinfo=timezone.utc).timestamp()] * 21


def test_an_archive_that_is_too_large_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(gather_files, "LARGEST_UNPACKED", 1000)
    export = read_export(archive_with(tmp_path / "a.zip", "zeros", bytes(2000)), tmp_path / "work")
    assert "unpacks to more than" in export.problems[0]


def test_the_patient_is_taken_out_of_texts() -> None:
    words = patient_words(Patient("ZZNAME^Geheim^Li", "ZZID-4711", "19510203"))
    assert "geheim" in words
    assert without_patient("T1 zzNAME_geheimMR li 03.02.1951 ZZID-4711", words).lower().count("removed") == 5
    assert without_patient("FLAIR line 3mm", words) == "FLAIR line 3mm"
    assert without_patient("a\x1b[31m\nb", ()) == "a [31m b"


def test_names_of_sequences_are_no_patients() -> None:
    assert without_patient("T2 FLAIR", patient_words(Patient("T2^FLAIR", "T2", ""))) == "T2 FLAIR"


@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_never_end_in_a_traceback(tmp_path: Path, seed: int, capfd, recwarn, caplog) -> None:
    rng = np.random.default_rng(seed)
    write(make_enhanced(FLAIR), tmp_path / "in" / "enhanced")
    write_scans(tmp_path / "in", [FLAIR], "{image}")
    for path in (tmp_path / "in").iterdir():
        content = bytearray(path.read_bytes())
        for place in rng.integers(132, 1800, size=rng.integers(1, 12)):
            content[place] = rng.integers(256)
        path.write_bytes(content)
    export = read_export(tmp_path / "in", tmp_path / "work")
    sentences = [*export.problems, *(item.problem or "" for study in export.studies for item in study.series)]
    for study in export.studies:
        choose_series(study.series, ["FLAIR", "T1"])
    printed = capfd.readouterr()
    told = [*sentences, printed.out, printed.err, caplog.text, *(str(warning.message) for warning in recwarn)]
    assert "geheim" not in " ".join(told).lower()


def test_no_representation_names_the_patient_or_a_path(tmp_path: Path) -> None:
    export = read_export(write_scans(tmp_path / "ZZNAME", CLEAN), tmp_path)
    assert "ZZNAME" not in repr(export)
    assert "ZZNAME" not in repr(SequenceFacts(description="ZZNAME", protocol_name="ZZNAME"))
    assert export.studies[0].patient == Patient("ZZNAME^Geheim", "ZZID-4711", "19510203")
