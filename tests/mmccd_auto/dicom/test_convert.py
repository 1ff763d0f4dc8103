"""What is done when dcm2niix fails, and where volumes land."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import FLAIR, MPRAGE, OBLIQUE, PLANTED, Scan, make_images, write, write_scans

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom import convert
from mmccd_auto.dicom.convert import convert_series, find_dcm2niix
from mmccd_auto.dicom.records import Series
from mmccd_auto.dicom.series.choose_series import choose_series
from mmccd_auto.dicom.series.find_series import read_export

needs_scripts = pytest.mark.skipif(os.name == "nt", reason="the stand-in for dcm2niix is a shell script")


def read_series(folder: Path, scan: Scan = FLAIR) -> Series:
    """A series written and found again."""
    return read_export(write_scans(folder / "export", [scan]), folder).studies[0].series[0]


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """An axial FLAIR."""
    return read_series(tmp_path)


def stand_in(monkeypatch, folder: Path, script: str) -> None:
    """Let a shell script take the place of dcm2niix; its output folder is $out."""
    path = folder / "dcm2niix"
    path.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nout=$2\n{script}\n', encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(convert, "find_dcm2niix", lambda: path)


@pytest.mark.parametrize("scan", [FLAIR, replace(FLAIR, orientation=OBLIQUE), MPRAGE], ids=["axial", "oblique", "sagittal"])
def test_corners_lie_where_the_headers_say(tmp_path: Path, scan: Scan) -> None:
    corners = convert_series(read_series(tmp_path, scan), tmp_path).volume.geometry.corners()
    row, column = np.reshape(scan.orientation, (2, 3))
    for index in (0, scan.slices - 1):
        for steps in ((0, 0), (scan.columns - 1, 0), (0, scan.rows - 1), (scan.columns - 1, scan.rows - 1)):
            expected = scan.position(index) + scan.pixel * (row * steps[0] + column * steps[1])
            assert np.linalg.norm(corners - expected, axis=1).min() < 0.01


def test_nothing_is_left_in_the_workspace(series: Series, tmp_path: Path) -> None:
    convert_series(series, tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_files_are_copied_where_links_are_impossible(series: Series, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    assert convert_series(series, tmp_path).volume.geometry.size == (40, 48, 14)


def test_missing_facts_come_from_the_side_file(series: Series, tmp_path: Path) -> None:
    bare = replace(series, facts=replace(series.facts, echo_time=None))
    assert convert_series(bare, tmp_path).facts.echo_time == pytest.approx(100)


def test_a_series_with_a_problem_is_refused(series: Series, tmp_path: Path) -> None:
    with pytest.raises(MMCCDError, match="Series 5 lacks a slice"):
        convert_series(replace(series, problem="Series 5 lacks a slice."), tmp_path)


def test_without_dcm2niix_it_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("dcm2niix.bin", "/nowhere/dcm2niix")
    with pytest.raises(MMCCDError, match="pip install dcm2niix"):
        find_dcm2niix()


def test_one_on_the_path_will_do(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/dcm2niix")
    monkeypatch.setattr("dcm2niix.bin", "/nowhere/dcm2niix")
    assert find_dcm2niix() == Path("/usr/bin/dcm2niix")


@needs_scripts
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo ZZNAME Geheim; exit 1", "can't be read by dcm2niix"),
        ("touch $out/series.nii $out/seriesa.nii", "gives 2 volumes instead of one"),
        ("touch $out/series_ph.nii", "no magnitude image"),
        ("touch $out/series.nii", "gives a volume that"),
    ],
)
def test_what_goes_wrong_is_told_without_its_words(series, tmp_path, monkeypatch, capfd, script, sentence) -> None:
    stand_in(monkeypatch, tmp_path, script)
    with pytest.raises(MMCCDError, match=sentence) as caught:
        convert_series(series, tmp_path)
    printed = capfd.readouterr()
    assert not [word for word in PLANTED if word in f"{caught.value}{printed.out}{printed.err}".lower()]
    assert str(caught.value).startswith("Series 401 (sT2W/FLAIR)")


@needs_scripts
def test_a_compression_that_dcm2niix_was_built_without_is_named(series: Series, tmp_path: Path, monkeypatch) -> None:
    stand_in(monkeypatch, tmp_path, "echo 'Unsupported transfer syntax of ZZNAME' >&2")
    facts = replace(series.facts, transfer_syntax="1.2.840.10008.1.2.4.90")
    with pytest.raises(MMCCDError, match=r"can't be read here \(JPEG 2000 .*\): export it without compression"):
        convert_series(replace(series, facts=facts), tmp_path)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.202", "1.2.3.4", ""])
def test_an_unknown_compression_is_refused(series: Series, tmp_path: Path, syntax: str) -> None:
    facts = replace(series.facts, transfer_syntax=syntax)
    bad = replace(series, facts=facts, files=(tmp_path / "bad.dcm",))
    content = write(make_images(FLAIR)[0], tmp_path / "bad.dcm").read_bytes()
    (tmp_path / "bad.dcm").write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.", 1))
    with pytest.raises(MMCCDError, match="compressed in a way that can't be read here"):
        convert_series(bad, tmp_path)


@needs_scripts
def test_it_is_killed_with_its_children(series: Series, tmp_path: Path, monkeypatch) -> None:
    stand_in(monkeypatch, tmp_path, f"(sleep 3; touch {tmp_path}/survived) & sleep 60")
    start = time.monotonic()
    with pytest.raises(MMCCDError, match=r"not converted within 0\.5 s"):
        convert_series(series, tmp_path, time_limit=0.5)
    assert time.monotonic() - start < 20
    time.sleep(4)
    assert not (tmp_path / "survived").exists()


def test_a_volume_with_other_slices_or_another_place_is_refused(series: Series, tmp_path: Path) -> None:
    grid = series.grid
    with pytest.raises(MMCCDError, match="has 15 slices"):
        convert_series(replace(series, grid=replace(grid, size=(*grid.size[:2], 15))), tmp_path)
    with pytest.raises(MMCCDError, match=r"came out 30\.0 mm away"):
        convert_series(replace(series, grid=replace(grid, origin=tuple(np.add(grid.origin, (0, 0, 30))))), tmp_path)


@pytest.mark.real_data
def test_a_real_export(real_data: Path, tmp_path: Path) -> None:
    export = read_export(real_data / "hospital_export", tmp_path)
    assert (len(export.studies), export.problems, export.ignored) == (1, (), {})
    rows = choose_series(export.studies[0].series, ["FLAIR", "T1", "T2"])
    assert {row.used_as: row.description for row in rows} == {"FLAIR": "sT2W/FLAIR", "T1": "T1/SE/extrp", "T2": "sT2/TSE/T"}
    for row in rows:
        volume = convert_series(row.series, tmp_path).volume
        assert volume.geometry.size[2] == 22
        assert volume.geometry.spacing[2] == pytest.approx(6.0, abs=1e-3)
        assert volume.array.max() > 100


@pytest.fixture
def free_bytes(monkeypatch):
    """Let disks have this much room left."""

    def leave(count: int) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": count})())

    return leave


def test_too_little_room_in_the_temporary_folder_is_seen_before(series: Series, tmp_path: Path, free_bytes) -> None:
    free_bytes(2 * 40 * 48 * 14 - 1)
    with pytest.raises(MMCCDError, match=r"Series 401 .* needs 0\.1 MiB of the temporary folder.*TMPDIR"):
        convert_series(series, tmp_path / "work")


@needs_scripts
@pytest.mark.parametrize("script", ["exit 1", "touch $out/series.nii", "head -c 400 /dev/zero > $out/series.nii"])
def test_a_disk_that_fills_up_meanwhile_is_named_as_such(series, tmp_path, monkeypatch, free_bytes, script: str) -> None:
    stand_in(monkeypatch, tmp_path, script)
    free_bytes(2**19)
    with pytest.raises(MMCCDError, match="whose disk is full") as caught:
        convert_series(series, tmp_path / "work")
    assert "damaged" not in str(caught.value)


def test_a_full_disk_while_files_are_copied_is_named_as_such(series: Series, tmp_path: Path, monkeypatch) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmccd_auto.dicom.converter_files._rewrite", fill)
    with pytest.raises(MMCCDError, match="whose disk is full"):
        convert_series(replace(series, renumber=True), tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
