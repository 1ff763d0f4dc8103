"""From a scan to slices and back: geometry above all."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.plans.plan import ConfigurationPlan, DiffusionPlan, NetworkPlan, Plan, TrainingPlan
from mmccd_auto.preprocessing.preprocess_case import CaseGeometry, preprocess_case, to_scan_grid

ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))


def make_plan(slice_axis: str = "axial", spacing: float = 1.5, scheme: str = "percentile") -> Plan:
    return Plan(
        plans_name="mmccdPlans",
        dataset_name="Dataset900_Tiny",
        planner="MMCCDPlanner",
        modalities=("FLAIR", "T1"),
        slice_axis=slice_axis,
        target_spacing=spacing,
        patch_size=(48, 40),
        normalisation={"FLAIR": scheme, "T1": scheme},
        strip_width=8,
        network=NetworkPlan(channel_multipliers=(1, 2, 2)),
        diffusion=DiffusionPlan(),
        training=TrainingPlan(),
        default_configuration="FLAIR-T1",
        configurations={"FLAIR-T1": ConfigurationPlan("FLAIR", "T1", sampling_steps=2, strip_stride=4)},
        cost={},
    )


def rotation(first: float, second: float, third: float) -> np.ndarray:
    """About x, y and z by angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate((first, second, third)):
        turn = np.eye(3)
        others = [other for other in range(3) if other != axis]
        turn[np.ix_(others, others)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix = turn @ matrix
    return matrix


def brain_and_places(spacing: tuple[float, float, float], semi_axes: tuple[float, float, float]) -> tuple[np.ndarray, ...]:
    """An ellipsoid (bool [z, y, x]) with a margin of two voxels, and each voxel's place in mm from its centre, x, y, z."""
    edges = [2 * int(np.ceil(half / step)) + 5 for half, step in zip(semi_axes, spacing, strict=True)]
    lines = [(np.arange(edge) - (edge - 1) / 2) * step for edge, step in zip(edges, spacing, strict=True)]
    z, y, x = np.meshgrid(*lines[::-1], indexing="ij")
    inside = sum((place / half) ** 2 for place, half in zip((x, y, z), semi_axes, strict=True)) < 1
    return inside, x, y, z


def geometry_of(array: np.ndarray, spacing: tuple[float, float, float], direction: np.ndarray | None = None) -> Geometry:
    direction = np.eye(3) if direction is None else direction
    return Geometry(tuple(reversed(array.shape)), spacing, (-31.5, 12.25, 80.0), tuple(direction.ravel().tolist()))


@pytest.fixture
def scans() -> dict[str, Volume]:
    """FLAIR and T1 of one smooth brain, 1 x 1.2 x 4 mm."""
    brain, x, y, z = brain_and_places((1.0, 1.2, 4.0), (20.0, 26.0, 22.0))
    field = 300 + 6 * x + 4 * y + 3 * z + 20 * np.sin(x / 5) * np.cos(y / 7)
    other = 500 - 7 * x + 2 * y - 3 * z
    geometry = geometry_of(brain, (1.0, 1.2, 4.0))
    return {
        "T1": Volume(np.where(brain, other, 0).astype(np.float32), geometry),
        "FLAIR": Volume(np.where(brain, field, 0).astype(np.float32), geometry),
    }


def stored_otherwise(volume: Volume, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Volume:
    return Volume.from_image(sitk.Flip(sitk.PermuteAxes(volume.to_image(), order), flips))


def test_shapes_types_and_values(scans: dict[str, Volume]) -> None:
    label = Volume((scans["FLAIR"].array > 420).astype(np.int16) * 2, scans["FLAIR"].geometry)
    found = preprocess_case("a", scans, make_plan(), label)
    slices = scans["FLAIR"].array.shape[0]
    assert found.modalities == ("FLAIR", "T1")
    assert found.image.shape == (2, slices, 48, 40)
    assert found.image.dtype == np.float32
    assert found.brain.shape == (slices, 48, 40)
    assert found.brain.dtype == bool
    assert found.anomaly.dtype == np.uint8
    assert set(np.unique(found.anomaly)) == {0, 1}
    assert (found.image[:, ~found.brain] == -3).all()
    assert np.array_equal(found.native_brain, scans["FLAIR"].array > 0)
    native, grid = scans["FLAIR"].geometry.voxel_volume, found.geometry.grid.voxel_volume
    assert found.brain.sum() * grid == pytest.approx(found.native_brain.sum() * native, rel=0.03)
    assert np.percentile(found.image[0][found.brain], 90) == pytest.approx(3, abs=0.2)


def test_the_input_modality_alone_is_preprocessed_as_with_the_others(scans: dict[str, Volume]) -> None:
    both = preprocess_case("a", scans, make_plan())
    alone = preprocess_case("a", {"FLAIR": scans["FLAIR"]}, make_plan())
    assert alone.modalities == ("FLAIR",)
    assert alone.anomaly is None
    assert np.array_equal(alone.image[0], both.image[0])
    assert alone.geometry == both.geometry


@pytest.mark.parametrize("slice_axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.3, -0.2, 0.15)])
def test_the_48_ways_of_storing_a_scan_give_the_same_slices_and_the_same_map(
    scans: dict[str, Volume], slice_axis: str, angles: tuple[float, float, float]
) -> None:
    plan = make_plan(slice_axis)
    scan = Volume(scans["FLAIR"].array, geometry_of(scans["FLAIR"].array, (1.0, 1.2, 4.0), rotation(*angles)))
    expected = preprocess_case("a", {"FLAIR": scan}, plan)
    expected_map = Volume(to_scan_grid(expected.image[0], expected.geometry, expected.native_brain), scan.geometry)
    for order, flips in ORIENTATIONS:
        stored = stored_otherwise(scan, order, flips)
        found = preprocess_case("a", {"FLAIR": stored}, plan)
        assert np.allclose(found.image, expected.image, atol=1e-5)
        assert np.array_equal(found.brain, expected.brain)
        assert found.geometry.original == stored.geometry
        back = to_scan_grid(found.image[0], found.geometry, found.native_brain)
        assert np.allclose(back, stored_otherwise(expected_map, order, flips).array, atol=1e-5)


def test_a_smooth_field_survives_the_way_there_and_back(scans: dict[str, Volume]) -> None:
    found = preprocess_case("a", scans, make_plan(spacing=2.0))
    parameters = found.normalisation["FLAIR"]
    back = to_scan_grid(found.image[0], found.geometry, found.native_brain)
    expected = (scans["FLAIR"].array - parameters["shift"]) * parameters["scale"] - 3
    difference = np.abs(back - expected)[found.native_brain]
    span = np.ptp(expected[found.native_brain])
    assert np.mean(difference) < 0.01 * span
    assert np.percentile(difference, 99) < 0.04 * span
    assert (back[~found.native_brain] == 0).all()
    assert back.dtype == np.float32


@given(
    spacing=st.tuples(*[st.floats(0.5, 6.0)] * 3),
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    target=st.floats(0.8, 2.0),
    slice_axis=st.sampled_from(["axial", "coronal", "sagittal"]),
    orientation=st.sampled_from(ORIENTATIONS),
    centre=st.tuples(*[st.floats(-5, 5)] * 3),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_lesion_comes_back_where_it_was(spacing, angles, target, slice_axis, orientation, centre) -> None:
    brain, x, y, z = brain_and_places(spacing, (21.0, 24.0, 22.0))
    distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    lesion = np.exp(-distance / (2 * 5.0**2)) * brain
    scan = Volume(np.where(brain, 1 + 3 * lesion, 0), geometry_of(brain, spacing, rotation(*angles)))
    stored = stored_otherwise(scan, *orientation)
    native_lesion = stored_otherwise(Volume(lesion, scan.geometry), *orientation).array
    found = preprocess_case("a", {"FLAIR": stored}, make_plan(slice_axis, target, "official"))
    parameters = found.normalisation["FLAIR"]
    healthy = parameters["scale"] - 3
    back = to_scan_grid(np.where(found.brain, found.image[0] - healthy, 0), found.geometry, found.native_brain)
    assert back.shape == native_lesion.shape
    assert (back[~found.native_brain] == 0).all()
    assert found.geometry.original == stored.geometry
    expected = np.array(ndimage.center_of_mass(native_lesion))
    assert np.abs(np.array(ndimage.center_of_mass(back)) - expected).max() < 0.5


def test_labels_come_back_where_they_were(scans: dict[str, Volume]) -> None:
    brain, x, y, z = brain_and_places((1.0, 1.2, 4.0), (20.0, 26.0, 22.0))
    lesion = ((x - 6) ** 2 + (y + 8) ** 2 + (z - 4) ** 2 < 7**2) & brain
    label = Volume(lesion.astype(np.uint8), scans["FLAIR"].geometry)
    for plan in (make_plan("axial"), make_plan("coronal"), make_plan("sagittal")):
        found = preprocess_case("a", scans, plan, label)
        back = to_scan_grid(found.anomaly.astype(np.float32), found.geometry, found.native_brain) > 0.5
        assert 2 * (back & lesion).sum() / (back.sum() + lesion.sum()) > 0.9


def test_a_given_mask_is_taken_as_it_is(scans: dict[str, Volume]) -> None:
    head = np.where(
        scans["FLAIR"].array > 0, scans["FLAIR"].array, np.random.default_rng(0).rayleigh(30, scans["FLAIR"].array.shape)
    )
    skull_on = Volume(head, scans["FLAIR"].geometry)
    with pytest.raises(MMCCDError, match="a: FLAIR still has the skull"):
        preprocess_case("a", {"FLAIR": skull_on}, make_plan())
    mask = Volume((scans["FLAIR"].array > 0).astype(np.uint8) * 255, scans["FLAIR"].geometry)
    found = preprocess_case("a", {"FLAIR": skull_on}, make_plan(), brain_mask=mask)
    expected = preprocess_case("a", {"FLAIR": scans["FLAIR"]}, make_plan())
    # The darkest air, 0.4, is taken for the zero, so that the last bits differ.
    np.testing.assert_allclose(found.image, expected.image, atol=1e-5)
    assert np.array_equal(found.native_brain, expected.native_brain)


def test_an_empty_mask_is_named(scans: dict[str, Volume]) -> None:
    mask = Volume(np.zeros(scans["FLAIR"].array.shape), scans["FLAIR"].geometry)
    with pytest.raises(MMCCDError, match="a: the brain mask is empty"):
        preprocess_case("a", scans, make_plan(), brain_mask=mask)


@pytest.mark.parametrize("what", ["T1", "label", "brain mask"])
def test_another_grid_is_named(scans: dict[str, Volume], what: str) -> None:
    shifted = dataclasses.replace(scans["T1"].geometry, origin=(-30.5, 12.25, 80.0))
    other = Volume(scans["T1"].array, shifted)
    arguments = {"T1": {}, "label": {"label": other}, "brain mask": {"brain_mask": other}}[what]
    volumes = {**scans, "T1": other} if what == "T1" else scans
    with pytest.raises(MMCCDError, match=f"case_7: {what} does not lie on the grid of FLAIR .*origin"):
        preprocess_case("case_7", volumes, make_plan(), **arguments)


def test_modalities_that_are_not_registered_are_named(scans: dict[str, Volume]) -> None:
    moved = Volume(np.roll(scans["T1"].array, 2, axis=2), scans["T1"].geometry)
    preprocess_case("a", {**scans, "T1": moved}, make_plan())
    moved = Volume(np.pad(scans["T1"].array[:, :, :-8], ((0, 0), (0, 0), (8, 0))), scans["T1"].geometry)
    with pytest.raises(MMCCDError, match="case_7: T1 and FLAIR are not registered"):
        preprocess_case("case_7", {**scans, "T1": moved}, make_plan())


def test_brain_is_where_every_modality_has_brain(scans: dict[str, Volume]) -> None:
    moved = Volume(np.roll(scans["T1"].array, 2, axis=2), scans["T1"].geometry)
    found = preprocess_case("a", {**scans, "T1": moved}, make_plan())
    assert np.array_equal(found.native_brain, (scans["FLAIR"].array > 0) & (moved.array > 0))
    assert (found.image[1] != -3).sum() > found.brain.sum()


def test_each_modality_has_its_own_brain(scans: dict[str, Volume]) -> None:
    """FLAIR lacks the brain's first slice and T1 its last one and a strip at its side."""
    first, *_, last = np.flatnonzero((scans["FLAIR"].array > 0).any(axis=(1, 2)))
    flair, t1 = scans["FLAIR"].array.copy(), scans["T1"].array.copy()
    flair[first] = 0
    t1[last] = 0
    t1[:, :, :5] = 0
    volumes = {name: Volume(array, scans["FLAIR"].geometry) for name, array in (("FLAIR", flair), ("T1", t1))}
    found = preprocess_case("a", volumes, make_plan())
    values = found.image != -3
    assert [values[channel, place].any() for channel in (0, 1) for place in (first, last)] == [False, True, True, False]
    assert not found.brain[[first, last]].any()
    middle = (first + last) // 2
    assert np.count_nonzero(values[0, middle] & ~values[1, middle]) > 10
    assert not (values[1, middle] & ~values[0, middle]).any()


def test_unusable_volumes_are_named(scans: dict[str, Volume]) -> None:
    with pytest.raises(MMCCDError, match=r"a: PD is no modality of the plan: give scans of FLAIR, T1\."):
        preprocess_case("a", {**scans, "PD": scans["T1"]}, make_plan())
    with pytest.raises(MMCCDError, match="a has no images"):
        preprocess_case("a", {}, make_plan())
    broken = scans["T1"].array.copy()
    broken[3] = np.nan
    mask = Volume(scans["FLAIR"].array > 0, scans["FLAIR"].geometry)
    with pytest.raises(MMCCDError, match=r"a: T1 holds [0-9]+ voxels that are NaN or infinite inside the brain"):
        preprocess_case("a", {**scans, "T1": Volume(broken, mask.geometry)}, make_plan(), brain_mask=mask)


def test_geometry_survives_json(scans: dict[str, Volume]) -> None:
    geometry = preprocess_case("a", scans, make_plan("coronal")).geometry
    assert CaseGeometry.from_json(geometry.to_json()) == geometry


def test_a_map_of_an_empty_brain_is_empty(scans: dict[str, Volume]) -> None:
    found = preprocess_case("a", scans, make_plan())
    back = to_scan_grid(found.image[0], found.geometry, np.zeros_like(found.native_brain))
    assert not back.any()


@pytest.mark.real_data
@pytest.mark.parametrize("case", ["imagesTr/Kirby_113", "imagesTs/MS_patient26"])
def test_real_scans_go_there_and_back(real_data, case: str) -> None:
    path = real_data / "Dataset001_RealBrain" / case
    volumes = {name: read_volume(f"{path}_{channel:04d}.nii.gz") for channel, name in enumerate(("FLAIR", "T1"))}
    label = read_volume(real_data / "Dataset001_RealBrain" / f"{case.replace('images', 'labels')}.nii.gz")
    plan = dataclasses.replace(make_plan(spacing=1.6), patch_size=(128, 112))
    found = preprocess_case(path.name, volumes, plan, label)
    native, grid = label.geometry.voxel_volume, found.geometry.grid.voxel_volume
    assert found.brain.sum() * grid == pytest.approx(found.native_brain.sum() * native, rel=0.01)
    assert found.anomaly.sum() * grid == pytest.approx((label.array > 0).sum() * native, rel=0.05, abs=1)
    for channel, volume in enumerate(volumes.values()):
        back = to_scan_grid(found.image[channel], found.geometry, found.native_brain)
        likeness = np.corrcoef(back[found.native_brain], volume.array[found.native_brain])[0, 1]
        assert likeness > 0.9
