"""The fingerprint of small datasets on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.dataset import Dataset, load_dataset
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.plans.fingerprint import DatasetFingerprint, fingerprint_case, fingerprint_dataset
from mmccd_auto.plans.planner import MMCCDPlanner

SHAPE = (24, 30, 28)
SPACING = (5.0, 5.5, 6.0)
RADII = (9.0, 12.0, 10.0)
LPS = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)


def brain_mask() -> np.ndarray:
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    centre = [edge / 2 - 0.5 for edge in SHAPE]
    distance = sum(((axis - middle) / radius) ** 2 for axis, middle, radius in zip((z, y, x), centre, RADII, strict=True))
    return distance < 1


def scan(seed: int, brightness: float = 400.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 10, SHAPE)
    return np.where(brain_mask(), brightness + noise, 0).astype(np.float32)


def geometry(direction: tuple[float, ...] = LPS) -> Geometry:
    return Geometry(SHAPE[::-1], SPACING, (0.0, 0.0, 0.0), direction)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Three cases: healthy; with a lesion in slice 8; without T1."""
    folder = tmp_path / "raw" / "Dataset005_Small"
    for case in ("healthy", "lesion", "only_flair"):
        write_volume(scan(1), geometry(), folder / "imagesTr" / f"{case}_0000.nii.gz")
        if case != "only_flair":
            write_volume(scan(2, 800.0), geometry(), folder / "imagesTr" / f"{case}_0001.nii.gz")
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[8, 12:15, 12:15] = 1
    write_volume(label, geometry(), folder / "labelsTr" / "lesion.nii.gz")
    content = {
        "channel_names": {"0": "FLAIR", "1": "T1"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        "subjects": {"healthy": "Anna", "lesion": "Anna"},
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return load_dataset(folder)


def test_a_case_is_measured_as_it_was_made(dataset, tmp_path):
    fingerprint = fingerprint_dataset(dataset, tmp_path / "dataset_fingerprint.json", processes=0)
    assert list(fingerprint.cases) == ["healthy", "lesion", "only_flair"]
    assert fingerprint.failed == {}
    case, mask = fingerprint.cases["healthy"], brain_mask()
    occupied = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    assert case.brain_box == pytest.approx(
        [len(found) * edge for found, edge in zip(occupied, SPACING[::-1], strict=True)], rel=1e-5
    )
    assert case.brain_volume == pytest.approx(mask.sum() * np.prod(SPACING) / 1000, rel=1e-4)
    assert (case.subject, case.orientation, case.size, case.slice_axis) == ("Anna", "LPS", SHAPE[::-1], "axial")
    assert case.spacing == pytest.approx(SPACING)
    assert (case.one_grid, case.brain_overlap, case.mask_given) == (True, 1.0, False)
    flair = case.modalities["FLAIR"]
    assert flair.skull == "stripped"
    assert flair.percentiles["50"] == pytest.approx(400, abs=1)
    assert (flair.mean, flair.standard_deviation) == (pytest.approx(400, abs=1), pytest.approx(10, rel=0.05))
    assert flair.noise_sigma == pytest.approx(10, rel=0.1)
    assert all(0 < length < edge for length, edge in zip(flair.correlation_length, SPACING[::-1], strict=True))
    assert case.modalities["T1"].percentiles["50"] == pytest.approx(800, abs=1)
    assert list(fingerprint.cases["only_flair"].modalities) == ["FLAIR"]
    assert fingerprint.cases["only_flair"].brain_overlap is None
    assert DatasetFingerprint.load(tmp_path / "dataset_fingerprint.json") == fingerprint


def test_slices_beside_a_lesion_are_not_healthy(dataset, tmp_path):
    cases = fingerprint_dataset(dataset, tmp_path / "dataset_fingerprint.json", processes=0).cases
    healthy, lesion = (cases[name].slices for name in ("healthy", "lesion"))
    area = brain_mask().sum(axis=(1, 2))
    assert healthy["axial"].with_brain == lesion["axial"].with_brain == np.count_nonzero(area)
    assert healthy["axial"].healthy == np.count_nonzero(area >= 0.1 * area.max())
    assert healthy["axial"].healthy - lesion["axial"].healthy == 5
    assert healthy["coronal"].healthy - lesion["coronal"].healthy == 3 + 4


def test_the_summary_counts_cases_and_modalities(dataset, tmp_path):
    summary = fingerprint_dataset(dataset, tmp_path / "dataset_fingerprint.json", processes=0).summary
    assert (summary["cases"], summary["subjects"]) == (3, 2)
    assert (summary["modalities"]["FLAIR"]["cases"], summary["modalities"]["T1"]["cases"]) == (3, 2)
    assert summary["spacing_xyz_mm"]["median"] == pytest.approx(SPACING)


def test_a_plan_follows_from_the_scans(dataset, tmp_path):
    fingerprint = fingerprint_dataset(dataset, tmp_path / "dataset_fingerprint.json", processes=0)
    plan = MMCCDPlanner(fingerprint, dataset.name, dataset.modalities).plan()
    assert (plan.slice_axis, plan.default_configuration) == ("axial", "FLAIR-T1")


def test_the_orientation_of_the_file_does_not_matter(tmp_path):
    write_volume(scan(1), geometry(), tmp_path / "lps.nii.gz")
    turned = np.ascontiguousarray(scan(1).transpose(2, 0, 1)[:, ::-1])
    # file axes x, y, z hold the scan's y, z (from the top), x
    directions = (0, 0, 1.0, 1.0, 0, 0, 0, -1.0, 0)
    turned_geometry = Geometry(turned.shape[::-1], (SPACING[1], SPACING[2], SPACING[0]), (0.0, 0.0, 0.0), directions)
    write_volume(turned, turned_geometry, tmp_path / "turned.nii.gz")
    first, second = (fingerprint_case("case", "case", {"FLAIR": tmp_path / f"{name}.nii.gz"}) for name in ("lps", "turned"))
    assert first.orientation != second.orientation
    assert second.spacing == pytest.approx(first.spacing)
    assert second.brain_box == pytest.approx(first.brain_box)
    assert second.slices == first.slices
    assert second.modalities["FLAIR"].correlation_length == pytest.approx(first.modalities["FLAIR"].correlation_length)


def test_only_changed_cases_are_measured_again(dataset, tmp_path):
    output = tmp_path / "preprocessed" / "dataset_fingerprint.json"
    before = fingerprint_dataset(dataset, output, processes=0)
    records = sorted((output.parent / "dataset_fingerprint").iterdir())
    assert [record.name for record in records] == ["healthy.json", "lesion.json", "only_flair.json"]
    times = [record.stat().st_mtime_ns for record in records]
    output.unlink()
    assert fingerprint_dataset(dataset, output, processes=0) == before
    assert [record.stat().st_mtime_ns for record in records] == times
    write_volume(scan(3, 600.0), geometry(), dataset.channel_file("lesion", "FLAIR"))
    changed = fingerprint_dataset(dataset, output, processes=0)
    assert changed.cases["lesion"].modalities["FLAIR"].mean == pytest.approx(600, abs=2)
    assert [record.stat().st_mtime_ns == time for record, time in zip(records, times, strict=True)] == [True, False, True]
    fingerprint_dataset(dataset, output, processes=0, overwrite=True)
    assert all(record.stat().st_mtime_ns != time for record, time in zip(records, times, strict=True))


def test_a_label_that_appears_is_noticed(dataset, tmp_path):
    output = tmp_path / "dataset_fingerprint.json"
    before = fingerprint_dataset(dataset, output, processes=0)
    write_volume(np.ones(SHAPE, dtype=np.uint8), geometry(), dataset.folder / "labelsTr" / "healthy.nii.gz")
    after = fingerprint_dataset(dataset, output, processes=0)
    assert before.cases["healthy"].slices["axial"].healthy > after.cases["healthy"].slices["axial"].healthy == 0


def test_worker_processes_find_the_same(dataset, tmp_path):
    alone = fingerprint_dataset(dataset, tmp_path / "a" / "dataset_fingerprint.json", processes=0)
    assert fingerprint_dataset(dataset, tmp_path / "b" / "dataset_fingerprint.json", processes=2) == alone


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _with_skull(file: Path) -> None:
    write_volume(scan(1) + np.random.default_rng(5).uniform(20, 90, SHAPE).astype(np.float32), geometry(), file)


def _constant(file: Path) -> None:
    write_volume(brain_mask().astype(np.float32), geometry(), file)


@pytest.mark.parametrize(
    ("spoil", "message"), [(_truncate, ""), (_with_skull, "skull"), (_constant, "one constant value inside the brain")]
)
def test_a_case_that_fails_is_listed_and_the_others_go_on(dataset, tmp_path, spoil, message):
    file = dataset.channel_file("lesion", "T1")
    spoil(file)
    fingerprint = fingerprint_dataset(dataset, tmp_path / "dataset_fingerprint.json", processes=0)
    assert list(fingerprint.cases) == ["healthy", "only_flair"]
    assert list(fingerprint.failed) == ["lesion"]
    assert str(file) in fingerprint.failed["lesion"]
    assert message in fingerprint.failed["lesion"]


def test_if_every_case_fails_it_is_an_error(dataset, tmp_path):
    for case in dataset.cases("Tr"):
        _truncate(dataset.channel_file(case, "FLAIR"))
    with pytest.raises(MMCCDError, match="none of the 3 cases"):
        fingerprint_dataset(dataset, tmp_path / "dataset_fingerprint.json", processes=0)


def test_a_given_brain_mask_makes_a_scan_with_skull_usable(tmp_path):
    file, mask = tmp_path / "head.nii.gz", tmp_path / "mask.nii.gz"
    _with_skull(file)
    write_volume(brain_mask().astype(np.uint8), geometry(), mask)
    case = fingerprint_case("case", "case", {"FLAIR": file}, brain_mask_file=mask)
    assert case.mask_given
    assert case.modalities["FLAIR"].skull == "present"
    assert case.brain_volume == pytest.approx(brain_mask().sum() * np.prod(SPACING) / 1000, rel=1e-4)
    with pytest.raises(MMCCDError, match="skull"):
        fingerprint_case("case", "case", {"FLAIR": file})


def test_a_label_on_another_grid_is_refused(tmp_path):
    write_volume(scan(1), geometry(), tmp_path / "scan.nii.gz")
    other = Geometry(SHAPE[::-1], SPACING, (40.0, 0.0, 0.0), LPS)
    write_volume(np.zeros(SHAPE, dtype=np.uint8), other, tmp_path / "label.nii.gz")
    with pytest.raises(MMCCDError, match=r"label\.nii\.gz is not on the grid"):
        fingerprint_case("case", "case", {"FLAIR": tmp_path / "scan.nii.gz"}, tmp_path / "label.nii.gz")


def test_modalities_on_two_grids_are_told(tmp_path):
    write_volume(scan(1), geometry(), tmp_path / "flair.nii.gz")
    write_volume(scan(2)[2:], Geometry((28, 30, 22), SPACING, (0.0, 0.0, 12.0), LPS), tmp_path / "t1.nii.gz")
    case = fingerprint_case("case", "case", {"FLAIR": tmp_path / "flair.nii.gz", "T1": tmp_path / "t1.nii.gz"})
    assert (case.one_grid, case.brain_overlap) == (False, None)


@pytest.mark.real_data
def test_a_real_brain(real_data):
    dataset = load_dataset(real_data / "Dataset001_RealBrain")
    name = "Kirby_113"
    files = {modality: dataset.channel_file(name, modality) for modality in ("FLAIR", "T1")}
    case = fingerprint_case(name, name, files, dataset.label_file(name))
    assert case.one_grid
    assert case.brain_overlap > 0.95
    assert 1000 < case.brain_volume < 1800
    assert 150 < case.brain_box[1] < 200
    assert 1 < case.correlation_length("T1", "axial") < 10
    assert 80 < case.slices["axial"].healthy <= case.slices["axial"].with_brain
