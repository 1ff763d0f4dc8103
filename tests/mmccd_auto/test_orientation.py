"""Every way of storing one scan becomes the same canonical volume, and goes back exactly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from mmccd_auto.imaging.orientation import (
    canonical_geometry,
    from_canonical,
    from_slice_axis_first,
    slice_axis_first,
    to_canonical,
)
from mmccd_auto.imaging.volume import Geometry, Volume

ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))
ANGLE = st.floats(-np.pi, np.pi)


def rotation(first: float, second: float, third: float) -> np.ndarray:
    """About x, y and z by angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate((first, second, third)):
        turn = np.eye(3)
        others = [other for other in range(3) if other != axis]
        turn[np.ix_(others, others)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix = turn @ matrix
    return matrix


def scan(direction: np.ndarray) -> Volume:
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    return Volume(array, Geometry((6, 5, 4), (0.8, 1.0, 3.0), (-12.5, 30.25, 7.0), tuple(direction.ravel().tolist())))


def stored_otherwise(volume: Volume, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Volume:
    """The same voxels at the same places with permuted and flipped axes, made by SimpleITK."""
    image = sitk.Flip(sitk.PermuteAxes(volume.to_image(), order), flips)
    return Volume.from_image(image)


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.3, -0.2, 0.5), (0.05, 0.6, -0.1)])
@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_the_48_ways_of_storing_a_scan_are_one(angles, order, flips) -> None:
    expected = to_canonical(scan(rotation(*angles)))
    stored = stored_otherwise(scan(rotation(*angles)), order, flips)
    found = to_canonical(stored)
    assert np.array_equal(found.array, expected.array)
    assert found.geometry.differences(expected.geometry) == []
    back = from_canonical(found, stored.geometry)
    assert np.array_equal(back.array, stored.array)
    assert back.geometry == stored.geometry


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_exactly_between_two_orientations_the_choice_does_not_depend_on_the_storage(order, flips) -> None:
    oblique = scan(rotation(0, 0, np.pi / 4))
    found = to_canonical(stored_otherwise(oblique, order, flips))
    assert np.array_equal(found.array, to_canonical(oblique).array)


@given(ANGLE, ANGLE, ANGLE, st.sampled_from(ORIENTATIONS))
@settings(max_examples=100, deadline=None)
def test_every_voxel_stays_where_it_is_and_the_way_back_is_exact(first, second, third, orientation) -> None:
    stored = stored_otherwise(scan(rotation(first, second, third)), *orientation)
    canonical = to_canonical(stored)
    assert canonical.geometry == canonical_geometry(stored.geometry)
    stored_image, canonical_image = stored.to_image(), canonical.to_image()
    for value in (0, 17, 63, 119):
        places = []
        for volume, image in ((stored, stored_image), (canonical, canonical_image)):
            index = np.argwhere(volume.array == value)[0][::-1].tolist()
            places.append(image.TransformIndexToPhysicalPoint(index))
        assert np.allclose(*places, atol=1e-9)
    assert np.trace(np.reshape(canonical.geometry.direction, (3, 3))) > 0
    back = from_canonical(canonical, stored.geometry)
    assert np.array_equal(back.array, stored.array)
    assert back.geometry == stored.geometry


@given(*[st.floats(-0.4, 0.4)] * 3, st.sampled_from(ORIENTATIONS))
@settings(max_examples=50, deadline=None)
def test_agrees_with_itk_for_the_obliquities_of_the_clinic(first, second, third, orientation) -> None:
    stored = stored_otherwise(scan(rotation(first, second, third)), *orientation)
    expected = Volume.from_image(sitk.DICOMOrient(stored.to_image(), "LPS"))
    found = to_canonical(stored)
    assert np.array_equal(found.array, expected.array)
    assert found.geometry.differences(expected.geometry) == []


def test_masks_stay_boolean() -> None:
    volume = scan(np.diag([-1.0, -1.0, 1.0]))
    mask = Volume(volume.array > 50, volume.geometry)
    assert to_canonical(mask).array.dtype == bool


def test_a_volume_of_another_scan_cannot_go_back() -> None:
    volume = scan(np.eye(3))
    other = Geometry((5, 5, 5), volume.geometry.spacing, volume.geometry.origin, volume.geometry.direction)
    with pytest.raises(ValueError, match="does not come from"):
        from_canonical(volume, other)


@pytest.mark.parametrize(("slice_axis", "shape"), [("axial", (4, 5, 6)), ("coronal", (5, 4, 6)), ("sagittal", (6, 4, 5))])
def test_slice_axis_comes_first_without_flips(slice_axis: str, shape: tuple[int, int, int]) -> None:
    array = np.arange(120).reshape(4, 5, 6)
    slices = slice_axis_first(array, slice_axis)
    assert slices.shape == shape
    assert slices[0, 0, 0] == 0
    assert slices[-1, -1, -1] == 119
    assert np.array_equal(from_slice_axis_first(slices, slice_axis), array)
