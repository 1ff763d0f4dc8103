"""Rigid registration, on simulated scans whose headers were moved by known motions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.phantom.subject import Acquisition, Subject, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps
from mmccd_auto.preprocessing.align_modalities import prepare_case
from mmccd_auto.preprocessing.registration import register, resample_onto


@pytest.fixture(scope="module")
def subject() -> Subject:
    return simulate_subject(load_tissue_maps(4), Acquisition(4), (), np.random.default_rng(3))


def with_header_moved(volume: Volume, rotation: Rotation, shift: np.ndarray) -> Volume:
    """The same voxels, turned about the volume's centre and shifted (mm)."""
    geometry = volume.geometry
    centre, turn = geometry.corners().mean(axis=0), rotation.as_matrix()
    origin = turn @ (np.array(geometry.origin) - centre) + centre + shift
    direction = (turn @ np.reshape(geometry.direction, (3, 3))).ravel()
    return Volume(volume.array, Geometry(geometry.size, geometry.spacing, tuple(origin), tuple(direction)))


@pytest.mark.parametrize(
    ("modality", "degrees", "shift"),
    [("T1", (20, -10, 8), (15, -12, 14)), ("T2", (-6, 17, -15), (-20, 5, 3))],
)
def test_a_known_motion_is_found(subject: Subject, modality: str, degrees: tuple, shift: tuple) -> None:
    fixed, moving = subject.scans["FLAIR"], subject.scans[modality]
    rotation, shift = Rotation.from_euler("xyz", degrees, degrees=True), np.array(shift, dtype=float)
    found = register(fixed, with_header_moved(moving, rotation, shift))
    assert found.moved
    assert found.convincing
    geometry = fixed.geometry
    indices = np.argwhere(fixed.array > 0)[::13, ::-1]
    points = (indices * geometry.spacing) @ np.reshape(geometry.direction, (3, 3)).T + geometry.origin
    centre = moving.geometry.corners().mean(axis=0)
    expected = rotation.apply(points - centre) + centre + shift
    reached = np.array([found.transform.TransformPoint(point) for point in points.tolist()])
    left = np.linalg.norm(reached - expected, axis=1)
    assert np.median(left) < 1
    assert np.percentile(left, 95) < 2
    assert found.shift == pytest.approx(np.linalg.norm(expected - points, axis=1).mean(), abs=2)


def test_headers_that_agree_are_left_alone_and_voxels_stay(subject: Subject) -> None:
    found = register(subject.scans["FLAIR"], subject.scans["T1"])
    assert not found.moved
    assert found.shift == pytest.approx(0, abs=1e-9)
    prepared = prepare_case("case", subject.scans, "FLAIR")
    assert prepared.left_out == {}
    for modality, volume in subject.scans.items():
        np.testing.assert_array_equal(prepared.volumes[modality].array, volume.array)


def test_two_runs_give_one_transform(subject: Subject) -> None:
    moving = with_header_moved(subject.scans["T2"], Rotation.from_euler("z", 9, degrees=True), np.array([4.0, -7.0, 3.0]))
    first, second = (register(subject.scans["FLAIR"], moving) for _ in range(2))
    assert first.transform.GetParameters() == second.transform.GetParameters()
    assert first.likeness == second.likeness


def test_a_scan_on_another_grid_comes_onto_the_reference(subject: Subject) -> None:
    moving = with_header_moved(subject.scans["T1"], Rotation.from_euler("x", 12, degrees=True), np.array([0.0, 9.0, 12.0]))
    prepared = prepare_case("case", {"FLAIR": subject.scans["FLAIR"], "T1": moving}, "FLAIR")
    laid = prepared.volumes["T1"]
    assert laid.geometry == subject.scans["FLAIR"].geometry
    truth = subject.scans["T1"].array > 0
    overlap = 2 * np.count_nonzero((laid.array > laid.array.max() * 0.05) & truth)
    assert overlap / (np.count_nonzero(laid.array > laid.array.max() * 0.05) + np.count_nonzero(truth)) > 0.95


def test_background_of_nan_is_laid_like_one_of_0(subject: Subject) -> None:
    motion = Rotation.from_euler("x", 12, degrees=True), np.array([0.0, 9.0, 12.0])
    moving = with_header_moved(subject.scans["T1"], *motion)
    expected = prepare_case("case", {"FLAIR": subject.scans["FLAIR"], "T1": moving}, "FLAIR").volumes
    scans = {
        "FLAIR": with_nan(subject.scans["FLAIR"], subject.scans["FLAIR"].array == 0),
        "T1": with_nan(moving, moving.array == 0),
    }
    prepared = prepare_case("case", scans, "FLAIR")
    assert prepared.left_out == {}
    for modality, volume in prepared.volumes.items():
        inside = prepared.brain.mask
        # At the rim, what is mostly background is background.
        assert np.mean(volume.array[inside] != expected[modality].array[inside]) < 0.005
        assert np.isfinite(volume.array).all()


def test_a_scan_that_lacks_a_slice_is_left_out_or_refused(subject: Subject) -> None:
    missing = np.zeros_like(subject.scans["T1"].array, dtype=bool)
    missing[len(missing) // 2] = True
    scans = {"FLAIR": subject.scans["FLAIR"], "T1": with_nan(subject.scans["T1"], missing)}
    assert "case: T1 holds" in prepare_case("case", scans, "FLAIR").left_out["T1"]
    with pytest.raises(MMCCDError, match=r"case: FLAIR holds \d+ voxels that are NaN"):
        prepare_case("case", {"FLAIR": with_nan(subject.scans["FLAIR"], missing), "T1": subject.scans["T1"]}, "FLAIR")


def with_nan(volume: Volume, where: np.ndarray) -> Volume:
    return Volume(np.where(where, np.float32(np.nan), volume.array), volume.geometry)


def test_what_is_no_scan_of_the_person_is_left_out_by_name(subject: Subject) -> None:
    fixed = subject.scans["FLAIR"]
    noise = np.random.default_rng(0).uniform(0, 100, fixed.array.shape).astype(np.float32)
    prepared = prepare_case("case_0007", {"FLAIR": fixed, "T1": Volume(noise, fixed.geometry)}, "FLAIR")
    assert list(prepared.volumes) == ["FLAIR"]
    assert "case_0007: T1 and FLAIR" in prepared.left_out["T1"]


def test_a_constant_scan_is_refused(subject: Subject) -> None:
    fixed = subject.scans["FLAIR"]
    with pytest.raises(MMCCDError, match="no contrast"):
        register(fixed, Volume(np.ones_like(fixed.array), fixed.geometry))


def test_what_lies_outside_of_the_moving_scan_gets_its_lowest_value(subject: Subject) -> None:
    moving = subject.scans["T1"]
    part = Volume(moving.array[5:10] + 7, Geometry((*moving.geometry.size[:2], 5), *_from(moving.geometry, 5)))
    laid = resample_onto(part, moving.geometry, register(moving, moving).transform)
    np.testing.assert_allclose(laid.array[5:10], part.array, atol=1e-3)
    assert (laid.array[:5] == 7).all()


def _from(geometry: Geometry, slices: int) -> tuple:
    """Spacing, origin and direction of the volume without its first slices."""
    step = np.reshape(geometry.direction, (3, 3))[:, 2] * geometry.spacing[2] * slices
    return geometry.spacing, tuple(np.array(geometry.origin) + step), geometry.direction
