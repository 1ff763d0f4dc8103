"""mmccd_pacs against a real archive: what goes in comes out with its objects, once, whatever happens between."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_writing import FLAIR, T1, make_images, set_pixels, with_tags, write
from pacs_world import PASSWORD, QUICK, USER, Orthanc, study, study_uid

from mmccd_auto.cli.commands import pacs as command
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.pacs.archive import Unreachable
from mmccd_auto.pacs.dicomweb.access import WebAccess
from mmccd_auto.pacs.dicomweb.client import DicomWebArchive
from mmccd_auto.pacs.limits import Limits
from mmccd_auto.pacs.rules import StudyRules
from mmccd_auto.workflows.pacs import study as work

KINDS = ("SEG", "OT", "SR", "DOC")
KNEE = with_tags(FLAIR, BodyPartExamined="KNEE")


@pytest.fixture
def run(orthanc: Orthanc, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """One pass of the command; gives its status."""
    monkeypatch.setenv("MMCCD_PACS_PASSWORD", PASSWORD)
    where = ["--dicomweb", orthanc.url, "--user", USER, "--since", "20190101", "--once", "--quiet_time", "0"]

    def once(*more: str) -> int:
        return command._command(["--state", str(tmp_path / "state"), *where, "-m", str(model), *QUICK, *more])

    return once


def record(tmp_path: Path, number: int) -> dict:
    return load_json(tmp_path / "state" / "studies" / f"{study_uid(number)}.json")


def by_study(orthanc: Orthanc) -> dict[str, Counter]:
    found: dict[str, Counter] = {}
    for one in orthanc.objects():
        found.setdefault(one["StudyInstanceUID"], Counter())[one["Modality"]] += 1
    return found


def test_every_study_gets_its_objects_once_and_a_broken_one_is_left(run, orthanc: Orthanc, tmp_path: Path, capsys) -> None:
    broken = study(4, [FLAIR])
    for image in broken:
        set_pixels(image, np.zeros((FLAIR.rows, FLAIR.columns), dtype=np.uint16))
    orthanc.put(study(1), tmp_path / "1")
    orthanc.put(broken, tmp_path / "4")
    orthanc.put(study(2), tmp_path / "2")
    orthanc.put(study(2), tmp_path / "2 again")
    orthanc.put(study(5, [KNEE]), tmp_path / "5")
    orthanc.put(study(6, [replace(T1, leave_out=frozenset({3}))]), tmp_path / "6")
    assert run() == 1
    assert f"error: study {study_uid(4)}" in capsys.readouterr().err
    assert by_study(orthanc) == {study_uid(number): Counter(KINDS) for number in (1, 2)}
    for one in orthanc.objects():
        number = one["StudyInstanceUID"].rsplit(".", 1)[1]
        assert (one["PatientID"], one["PatientName"]) == (f"ZZID-{number}", f"ZZNAME^Geheim {number}")
    assert [record(tmp_path, number)["status"] for number in (1, 2, 4, 6)] == ["done", "done", "failed", "skipped"]
    assert not (tmp_path / "state" / "studies" / f"{study_uid(5)}.json").exists()
    assert list((tmp_path / "state" / "work").iterdir()) == []
    before = [(one["id"], record(tmp_path, 1)) for one in orthanc.objects()]
    assert run() == 0
    assert [(one["id"], record(tmp_path, 1)) for one in orthanc.objects()] == before
    assert_valid(orthanc, tmp_path)


def assert_valid(orthanc: Orthanc, folder: Path) -> None:
    """The archive holds what it was given: objects that refer to images that it has."""
    images = {one["MainDicomTags"]["SOPInstanceUID"] for one in orthanc.ask("/instances?expand")}
    program = shutil.which("dciodvfy")
    for one in orthanc.objects():
        path = orthanc.file_of(one["id"], folder / f"{one['id']}.dcm")
        content = pydicom.dcmread(path)
        referenced = {str(item.value) for item in content.iterall() if item.keyword == "ReferencedSOPInstanceUID"}
        assert referenced
        assert referenced <= images
        if program is not None:
            done = subprocess.run([program, path], capture_output=True, text=True, check=False, timeout=120)
            told = (done.stdout + done.stderr).splitlines()
            assert [line for line in told if line.startswith("Error")] == []


def test_a_run_that_was_ended_goes_on_where_it_was(run, orthanc: Orthanc, tmp_path: Path, monkeypatch) -> None:
    orthanc.put(study(1, [FLAIR]), tmp_path / "1")
    predict = work.run_predictor

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "run_predictor", ended)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert record(tmp_path, 1)["status"] == "working"
    # Predicted now, but the archive takes nothing: what is made is kept.
    monkeypatch.setattr(work, "run_predictor", predict)
    store = DicomWebArchive.store

    def half(archive: DicomWebArchive, uid: str, objects: list[Path]) -> None:
        store(archive, uid, objects[:2])
        raise Unreachable("The archive is away.")

    monkeypatch.setattr(DicomWebArchive, "store", half)
    assert run() == 0
    waiting = record(tmp_path, 1)
    assert (waiting["status"], waiting["reason"]) == ("predicted", "The archive is away.")
    assert waiting["not_before"] > time.time() + 60
    monkeypatch.setattr(work, "run_predictor", ended)
    monkeypatch.setattr(DicomWebArchive, "store", store)
    assert run() == 0
    assert record(tmp_path, 1) == waiting
    save_json(waiting | {"not_before": 0.0}, tmp_path / "state" / "studies" / f"{study_uid(1)}.json")
    assert run() == 0
    assert record(tmp_path, 1)["status"] == "done"
    assert by_study(orthanc) == {study_uid(1): Counter(KINDS)}
    assert sorted(one["SOPInstanceUID"] for one in orthanc.objects()) == sorted(waiting["objects"])


def test_a_study_that_grows_is_looked_at_again(run, orthanc: Orthanc, tmp_path: Path) -> None:
    orthanc.put(study(3, [T1]), tmp_path / "3")
    assert run("--keep_results") == 0
    assert record(tmp_path, 3)["status"] == "skipped"
    assert run() == 0
    assert record(tmp_path, 3)["attempts"] == 1
    orthanc.put(study(3, [FLAIR]), tmp_path / "3 later")
    assert run("--keep_results", "--quiet_time", "1") == 0
    assert record(tmp_path, 3)["status"] == "done"
    assert by_study(orthanc) == {study_uid(3): Counter(KINDS)}
    results = tmp_path / "state" / "results" / study_uid(3)
    assert (results / "report.html").is_file()
    assert os.stat(tmp_path / "state").st_mode & 0o077 == 0


def test_large_objects_arrive_whole(orthanc: Orthanc, tmp_path: Path) -> None:
    (large,) = make_images(replace(FLAIR, rows=1500, columns=1500, pixel=0.1, slices=1))
    path = write(large, tmp_path / "large.dcm")
    archive = DicomWebArchive(WebAccess(orthanc.url, USER, PASSWORD), StudyRules(since="20190101"), Limits())
    archive.store(FLAIR.study, [path])
    archive.store(FLAIR.study, [path])
    assert list(archive.studies()) == [FLAIR.study]
    archive.fetch(FLAIR.study, tmp_path / "in")
    assert pydicom.dcmread(tmp_path / "in" / "000001.dcm").PixelData == large.PixelData


def test_refusals_are_told(run, orthanc: Orthanc, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MMCCD_PACS_PASSWORD", "wrong")
    with pytest.raises(Unreachable, match=r"refuses to search for studies \(status 401\): check --user and its password\."):
        run()
    monkeypatch.setenv("MMCCD_PACS_PASSWORD", PASSWORD)
    orthanc.put(study(1, [FLAIR]), tmp_path / "1")
    assert run("--most_images", "13") == 1
    assert record(tmp_path, 1)["reason"].startswith("The study has more than 13 images")
    assert run("--most_images", "13") == 0
    assert orthanc.objects() == []
