"""Images belong together by patient, time, series number and place where their numbers (UIDs) are useless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import CLEAN, FLAIR, T1, Scan, brain, make_images, positions, write
from pydicom.dataset import Dataset

from mmccd_auto.dicom.convert import convert_series
from mmccd_auto.dicom.records import Export
from mmccd_auto.dicom.series.choose_series import choose_series
from mmccd_auto.dicom.series.find_series import read_export
from mmccd_auto.sources.pseudonyms import pseudonyms

Edit = Callable[[Dataset, int], None]


def written(folder: Path, *scans: Scan, edit: Edit | None = None) -> Path:
    """Every image of the scans in one folder; ``edit(image, place)`` changes each."""
    place = 0
    for scan in scans:
        for image in make_images(scan):
            if edit:
                edit(image, place)
            write(image, folder / f"IM{place:04d}")
            place += 1
    return folder


def set_to(**values: object) -> Edit:
    """Set elements of every image; "each" stands for another number in each image, None takes the element away."""

    def edit(image: Dataset, place: int) -> None:
        for keyword, value in values.items():
            if value is None:
                if keyword in image:
                    delattr(image, keyword)
            else:
                setattr(image, keyword, f"1.2.826.5.{place + 1}" if value == "each" else value)
                if keyword == "SOPInstanceUID" and value:
                    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID

    return edit


USELESS = {
    "a study each": set_to(StudyInstanceUID="each"),
    "a series each": set_to(SeriesInstanceUID="each"),
    "a study and a series each": set_to(StudyInstanceUID="each", SeriesInstanceUID="each"),
    "a study, a series and a frame each": set_to(
        StudyInstanceUID="each", SeriesInstanceUID="each", FrameOfReferenceUID=None
    ),
    "one image number for all": set_to(SOPInstanceUID="1.2.3.4"),
    "one image number for all, no instance number": set_to(SOPInstanceUID="1.2.3.4", InstanceNumber=None),
    "no image number": set_to(SOPInstanceUID="", InstanceNumber=0),
    "all instance numbers 0": set_to(InstanceNumber=0),
    "no instance number": set_to(InstanceNumber=None),
    "emptied study": set_to(StudyInstanceUID=""),
    "no study": set_to(StudyInstanceUID=None),
    "emptied study and date": set_to(StudyInstanceUID="", StudyDate="", StudyTime=""),
    "emptied study and patient": set_to(StudyInstanceUID="", PatientID="", PatientName=""),
    "emptied series": set_to(SeriesInstanceUID=""),
    "emptied study and series": set_to(StudyInstanceUID="", SeriesInstanceUID=""),
    "one series for all": set_to(SeriesInstanceUID="1.2.3.5"),
    "one study, series and image for all": set_to(StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID="1.4"),
    "no patient number": set_to(PatientID=None),
    "no frame of reference": set_to(FrameOfReferenceUID=None),
    "no SOP class": set_to(SOPClassUID=""),
    "no date": set_to(StudyDate=None, StudyTime=None),
}


@pytest.mark.parametrize("name", USELESS)
def test_the_study_is_whole_and_its_volumes_are_right(name: str, tmp_path: Path) -> None:
    export = read_export(written(tmp_path / "in", *CLEAN, edit=USELESS[name]), tmp_path / "work")
    assert len(export.studies) == 1
    rows = choose_series(export.studies[0].series, ["FLAIR", "T1", "T2"])
    assert {row.used_as: row.number for row in rows if row.used_as} == {"FLAIR": 401, "T1": 601, "T2": 301}
    assert [row.series.problem for row in rows] == [None] * 3
    for row in rows:
        volume = convert_series(row.series, tmp_path / "work").volume
        difference = np.abs(volume.array - brain(positions(volume.geometry)))
        assert np.mean(difference > 1.01) < 2e-3
        assert volume.array.max() > 400


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a study each", "14 images of one series have several StudyInstanceUIDs"),
        ("a series each", "14 images have a SeriesInstanceUID each"),
        ("emptied study", "14 images have no StudyInstanceUID"),
    ],
)
def test_one_sentence_says_what_was_wrong(name: str, sentence: str, tmp_path: Path) -> None:
    export = read_export(written(tmp_path / "in", FLAIR, edit=USELESS[name]), tmp_path / "work")
    assert [problem for problem in export.problems if "InstanceUID" in problem] == [*export.problems]
    assert len(export.problems) == 1
    assert export.problems[0].startswith(sentence)


def test_sound_numbers_need_no_words_and_no_copies(tmp_path: Path) -> None:
    export = read_export(written(tmp_path / "in", *CLEAN), tmp_path / "work")
    assert export.problems == ()
    assert not any(series.renumber for series in export.studies[0].series)


def people(export: Export) -> list[tuple[str, int]]:
    return [(study.patient.name, len(study.series)) for study in export.studies]


def test_patients_are_never_mixed(tmp_path: Path) -> None:
    useless = USELESS["a study, a series and a frame each"]
    other = [replace(scan, patient=("ZZNAME^Other", "ZZID-9", "19700101")) for scan in CLEAN]
    written(tmp_path / "in" / "a", *CLEAN, edit=useless)
    written(tmp_path / "in" / "b", *other, edit=useless)
    export = read_export(tmp_path / "in", tmp_path / "work")
    assert sorted(people(export)) == [("ZZNAME^Geheim", 3), ("ZZNAME^Other", 3)]
    assert len({pseudonym.subject for pseudonym in pseudonyms(export.studies)}) == 2


def test_visits_stay_apart_by_their_dates(tmp_path: Path) -> None:
    for number, date in enumerate(("20200101", "20210101")):
        edit = set_to(StudyInstanceUID="each", StudyDate=date)
        scans = [replace(scan, uid=f"1.2.{number}.{scan.number}") for scan in CLEAN]
        written(tmp_path / "in" / date, *scans, edit=edit)
    export = read_export(tmp_path / "in", tmp_path / "work")
    assert [(study.date, len(study.series)) for study in export.studies] == [("20200101", 3), ("20210101", 3)]
    assert len({study.uid for study in export.studies}) == 2


def test_nobodys_series_are_not_put_into_one_study(tmp_path: Path) -> None:
    """Without patient, study, date and frame of reference nothing tells that two series are of one person."""
    edit = set_to(StudyInstanceUID="", PatientID="", PatientName="", PatientBirthDate="", FrameOfReferenceUID=None)
    export = read_export(written(tmp_path / "in", FLAIR, T1, edit=edit), tmp_path / "work")
    assert [len(study.series) for study in export.studies] == [1, 1]
    assert len({pseudonym.subject for pseudonym in pseudonyms(export.studies)}) == 2


def test_repetitions_with_numbers_each_are_told_once_or_kept_apart_by_time(tmp_path: Path) -> None:
    for number, time in enumerate(("120000", "121000")):
        edit = set_to(SeriesInstanceUID="each", SOPInstanceUID="each", SeriesTime=time)
        images = make_images(FLAIR)
        for place, image in enumerate(images):
            edit(image, place + 100 * number)
            write(image, tmp_path / "in" / f"{number}_{place}")
    series = read_export(tmp_path / "in", tmp_path / "work").studies[0].series
    assert [(len(one.files), one.problem) for one in series] == [(14, None), (14, None)]


def test_a_series_that_is_filed_in_two_studies_is_whole_in_both(tmp_path: Path) -> None:
    for number in (1, 2):
        written(tmp_path / "in" / str(number), FLAIR, edit=set_to(StudyInstanceUID=f"1.2.3.{number}"))
    export = read_export(tmp_path / "in", tmp_path / "work")
    assert [[series.problem for series in study.series] for study in export.studies] == [[None], [None]]
