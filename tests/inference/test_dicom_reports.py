"""Structured reports and printed pages say what was found, refer to what they were made of, and are valid DICOM."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_writing import FLAIR, PATIENT, make_enhanced, write, write_scans
from scored_images import MEANING, MODEL

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.writing.derived import ScoreObject, read_score_object
from mmccd_auto.dicom.writing.encapsulated_pdf import write_encapsulated_pdf
from mmccd_auto.dicom.writing.objects import write_parametric_map, write_segmentation
from mmccd_auto.dicom.writing.structured_report import ReportedLesion, write_structured_report
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.reporting.printed import MOST_ROWS, PrintedCase, print_case

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
DCIODVFY = shutil.which("dciodvfy")


def lesion(number: int, plane: int, side: str = "left", volume: float = 1.25) -> ReportedLesion:
    """A lesion whose centre lies in a plane of the scan, a little off its middle."""
    place = FLAIR.position(plane) + (40.0, 40.0, 3.0)
    return ReportedLesion(number, volume, 18.5, 3.75, 2.0, tuple(place), side)


def objects(folder: Path, files: Sequence[Path], with_mask: bool = True) -> ScoreObject:
    """Mask and score of a scan, without a network."""
    size = (FLAIR.columns, FLAIR.rows, FLAIR.slices)
    spacing = (FLAIR.pixel, FLAIR.pixel, FLAIR.spacing)
    geometry = Geometry(size, spacing, tuple(FLAIR.position(0)), IDENTITY)
    score = np.random.default_rng(0).random(size[::-1]).astype(np.float32)
    write_parametric_map(Volume(score, geometry), files, folder / "score.dcm", None, MODEL, MEANING)
    if with_mask:
        mask = Volume((score > 0.9).astype(np.uint8), geometry)
        write_segmentation(mask, files, folder / "seg.dcm", None, MODEL, MEANING)
    return read_score_object(folder / "score.dcm", folder / "seg.dcm" if with_mask else None)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return sorted(write_scans(tmp_path / "images", [FLAIR]).rglob("*.dcm"))


def measured(group: highdicom.sr.MeasurementsAndQualitativeEvaluations) -> list[float]:
    return [float(one.value) for one in group.get_measurements()]


def test_a_report_lists_every_lesion_with_its_image(images: list[Path], tmp_path: Path) -> None:
    score = objects(tmp_path, images)
    lesions = [lesion(1, 9, "left", 12.5), lesion(2, 4, "midline", 0.0125)]
    write_structured_report(score, lesions, tmp_path / "report.dcm")
    report = highdicom.sr.srread(tmp_path / "report.dcm")
    assert (str(report.PatientName), report.PatientID) == PATIENT[:2]
    assert report.StudyInstanceUID == FLAIR.study
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "PARTIAL",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    (whole,) = report.content.get_volumetric_roi_measurement_groups()
    assert measured(whole) == [12.5125]
    assert whole.referenced_segment.referenced_sop_instance_uid == score.segmentation.SOPInstanceUID
    groups = report.content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Lesion 1", "Lesion 2"]
    assert len({group.tracking_uid for group in [whole, *groups]}) == 3
    assert [measured(group) for group in groups] == [[12.5, 18.5, 3.75, 2.0], [0.0125, 18.5, 3.75, 2.0]]
    for group, plane in zip(groups, (9, 4), strict=True):
        (image,) = group.source_images
        position = [one for one in map(pydicom.dcmread, images) if one.SOPInstanceUID == image.referenced_sop_instance_uid]
        np.testing.assert_allclose(position[0].ImagePositionPatient, FLAIR.position(plane), atol=1e-5)


def test_equal_content_is_an_equal_object_and_another_content_another_one(images: list[Path], tmp_path: Path) -> None:
    score = objects(tmp_path, images)
    numbers = []
    for name, volume in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        write_structured_report(score, [lesion(1, 3, volume=volume)], tmp_path / f"{name}.dcm")
        numbers.append(str(pydicom.dcmread(tmp_path / f"{name}.dcm").SOPInstanceUID))
    assert numbers[0] == numbers[1] != numbers[2]


def test_the_image_of_a_lesion_may_be_a_frame(tmp_path: Path) -> None:
    enhanced = make_enhanced(FLAIR)
    enhanced.FrameOfReferenceUID = f"{FLAIR.study}.9"
    file = write(enhanced, tmp_path / "enhanced.dcm")
    score = objects(tmp_path, [file])
    _, instance, frame = score.image_at(lesion(1, 6).centre_lps_mm)
    assert instance == pydicom.dcmread(file).SOPInstanceUID
    assert frame == 7


def test_without_a_mask_there_is_no_report_but_a_page(images: list[Path], tmp_path: Path) -> None:
    score = objects(tmp_path, images, with_mask=False)
    with pytest.raises(MMCCDError, match=r"without a mask: calibrate the model, or give --threshold\."):
        write_structured_report(score, [], tmp_path / "report.dcm")
    write_encapsulated_pdf(score, b"%PDF-1.4", tmp_path / "document.dcm")
    assert len(pydicom.dcmread(tmp_path / "document.dcm").SourceInstanceSequence) == 1


@pytest.mark.parametrize("lesions", [0, 2])
def test_objects_are_valid(lesions: int, images: list[Path], tmp_path: Path) -> None:
    score = objects(tmp_path, images)
    write_structured_report(score, [lesion(number + 1, 5) for number in range(lesions)], tmp_path / "report.dcm")
    document = print_case(PrintedCase("Title", ["One line."], ["a"], [["b"]], []))
    write_encapsulated_pdf(score, document, tmp_path / "document.dcm")
    read = pydicom.dcmread(tmp_path / "document.dcm")
    assert read.EncapsulatedDocument[: read.EncapsulatedDocumentLength] == document
    assert [one.ReferencedSOPInstanceUID for one in read.SourceInstanceSequence] == [
        one.SOPInstanceUID for one in score.evidence
    ]
    assert (str(read.PatientName), read.PatientID, read.StudyInstanceUID) == (*PATIENT[:2], FLAIR.study)
    if DCIODVFY is None:
        pytest.skip("there is no dciodvfy (apt-get install dicom3tools): the objects are read, but not validated")
    for name in ("report.dcm", "document.dcm"):
        done = subprocess.run([DCIODVFY, tmp_path / name], capture_output=True, text=True, check=False, timeout=120)
        told = (done.stdout + done.stderr).splitlines()
        assert [line for line in told if line.startswith("Error")] == []
        assert any(line in ("Comprehensive3DSR", "EncapsulatedPDF") for line in told), told


def test_a_printed_case_is_the_same_every_time_and_holds_its_pictures(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    Figure(figsize=(2, 2)).savefig(tmp_path / "case.png")
    rows = [[str(number), "$1$ 名"] for number in range(MOST_ROWS + 5)]
    case = PrintedCase("A title", ["A long line. " * 40, "a $ sign"], ["no", "place"], rows, [tmp_path / "case.png"])
    document = print_case(case)
    assert document.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", document)) == 2
    assert print_case(case) == document
    assert print_case(replace(case, pictures=[])) != document
