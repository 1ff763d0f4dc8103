"""The target grid, and what resampling may and may not do to images, masks and labels."""

from __future__ import annotations

import numpy as np
import pytest

from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.preprocessing.resampling import (
    brain_on_grid,
    resample_back,
    resample_image,
    resample_label,
    resample_mask,
    target_grid,
)

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def ellipsoid(shape: tuple[int, int, int], fraction: float = 0.8) -> np.ndarray:
    places = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in shape), indexing="ij")
    return sum(place**2 for place in places) < fraction**2


def volume(array: np.ndarray, spacing=(1.0, 1.0, 3.0), origin=(5.0, -7.0, 11.0)) -> Volume:
    return Volume(array, Geometry(tuple(reversed(array.shape)), spacing, origin, IDENTITY))


@pytest.fixture
def brain() -> Volume:
    return volume(ellipsoid((12, 70, 60)))


@pytest.mark.parametrize(
    ("slice_axis", "kept", "in_plane"), [("axial", 2, (1, 0)), ("coronal", 1, (2, 0)), ("sagittal", 0, (2, 1))]
)
def test_grid_keeps_the_slices_and_centres_the_brain(brain: Volume, slice_axis: str, kept: int, in_plane: tuple) -> None:
    grid = target_grid(brain, slice_axis, 1.5, (64, 48), 16)
    assert grid.size[kept] == brain.geometry.size[kept]
    assert grid.spacing[kept] == brain.geometry.spacing[kept]
    assert grid.origin[kept] == pytest.approx(brain.geometry.origin[kept])
    assert tuple(grid.size[axis] for axis in in_plane) == (64, 48)
    where = np.argwhere(brain.array)[:, ::-1]
    for axis in in_plane:
        middle = (where[:, axis].min() + where[:, axis].max()) / 2 * brain.geometry.spacing[axis] + brain.geometry.origin[
            axis
        ]
        assert grid.origin[axis] + (grid.size[axis] - 1) / 2 * 1.5 == pytest.approx(middle)
        assert grid.spacing[axis] == 1.5


def test_grid_grows_by_the_divisor_where_the_brain_is_larger_than_the_patch(brain: Volume) -> None:
    rows = np.ptp(np.argwhere(brain.array)[:, 1]) + 1
    needed = 1.05 * rows
    grid = target_grid(brain, "axial", 1.0, (32, 64), 16)
    assert grid.size[1] % 16 == 0
    assert needed <= grid.size[1] < needed + 16
    assert grid.size[0] == 64


def test_a_brain_that_fits_into_the_patch_without_its_margin_is_not_tiled(brain: Volume) -> None:
    rows = np.ptp(np.argwhere(brain.array)[:, 1]) + 1
    assert target_grid(brain, "axial", 1.0, (rows, 64), 1).size[1] == rows


@pytest.mark.parametrize("spacing", [0.7, 1.0, 2.3])
def test_a_constant_brain_stays_constant_up_to_its_edge(brain: Volume, spacing: float) -> None:
    grid = target_grid(brain, "axial", spacing, (96, 96), 16)
    found = resample_image(volume(np.where(brain.array, 4.0, -3.0)), brain_on_grid(brain, grid))
    inside = resample_mask(brain, grid)
    assert inside.any()
    assert np.allclose(found[inside], 4.0, atol=1e-4)
    assert (found[~inside] == -3).all()


def test_what_lies_outside_the_brain_has_no_influence(brain: Volume) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=brain.array.shape)
    grid = target_grid(brain, "axial", 2.0, (48, 48), 16)
    expected = resample_image(volume(np.where(brain.array, values, -3.0)), brain_on_grid(brain, grid))
    found = resample_image(volume(np.where(brain.array, values, 1e3)), brain_on_grid(brain, grid))
    assert np.array_equal(found, expected)


def test_slices_do_not_mix(brain: Volume) -> None:
    values = np.broadcast_to(np.arange(12.0)[:, None, None] ** 2, brain.array.shape)
    grid = target_grid(brain, "axial", 2.0, (48, 48), 16)
    found = resample_image(volume(values), brain_on_grid(brain, grid))
    inside = resample_mask(brain, grid)
    for index in range(12):
        assert np.allclose(found[index][inside[index]], index**2, atol=1e-3)


def test_coarsening_does_not_alias(brain: Volume) -> None:
    stripes = np.broadcast_to(np.cos(np.pi * np.arange(60)), brain.array.shape)
    grid = target_grid(brain, "axial", 1.9, (48, 48), 16)
    found = resample_image(volume(stripes), brain_on_grid(brain, grid))
    core = resample_mask(volume(ellipsoid((12, 70, 60), 0.6)), grid)
    assert np.abs(found[core]).max() < 0.25


def test_resampling_to_the_own_spacing_changes_nothing(brain: Volume) -> None:
    values = np.random.default_rng(0).normal(size=brain.array.shape).astype(np.float32)
    grid = target_grid(brain, "axial", 1.0, (64, 64), 16)
    shift = [round(start - first) for start, first in zip(grid.origin, brain.geometry.origin, strict=True)]
    if any((start - first) % 1 for start, first in zip(grid.origin, brain.geometry.origin, strict=True)):
        grid = Geometry(grid.size, grid.spacing, tuple(np.add(brain.geometry.origin, shift)), grid.direction)
    found = resample_image(volume(values), brain_on_grid(brain, grid))
    assert np.count_nonzero(resample_mask(brain, grid)) == np.count_nonzero(brain.array)
    assert np.allclose(np.sort(found[found != -3]), np.sort(values[brain.array]), atol=1e-6)


def test_labels_keep_their_volume(brain: Volume) -> None:
    lesion = volume(ellipsoid((12, 70, 60), 0.4).astype(np.uint8) * 3)
    grid = target_grid(brain, "axial", 1.7, (64, 48), 16)
    found = resample_label(lesion, grid, "axial")
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1}
    native = np.count_nonzero(lesion.array) * lesion.geometry.voxel_volume
    assert np.count_nonzero(found) * grid.voxel_volume == pytest.approx(native, rel=0.03)


@pytest.mark.parametrize("slice_axis", ["axial", "coronal", "sagittal"])
def test_no_lesion_section_is_lost(slice_axis: str) -> None:
    generator = np.random.default_rng(3)
    brain = volume(ellipsoid((40, 44, 42)), spacing=(1.0, 1.0, 1.0))
    grid = target_grid(brain, slice_axis, 4.0, (16, 16), 16)
    position = {"axial": 0, "coronal": 1, "sagittal": 2}[slice_axis]
    for voxel in generator.permutation(np.argwhere(ellipsoid((40, 44, 42), 0.7)))[:60]:
        label = np.zeros(brain.array.shape, dtype=np.uint8)
        label[tuple(voxel)] = 1
        found = np.argwhere(resample_label(volume(label, spacing=(1.0, 1.0, 1.0)), grid, slice_axis))
        assert len(found) == 1
        place = found[0][::-1] * grid.spacing + grid.origin
        expected = voxel[::-1] + brain.geometry.origin
        assert (np.abs(place - expected) <= 2.0 + 1e-9).all()
        assert found[0][position] == voxel[position]


def test_an_empty_label_stays_empty(brain: Volume) -> None:
    grid = target_grid(brain, "axial", 2.0, (48, 48), 16)
    assert not resample_label(volume(np.zeros(brain.array.shape)), grid, "axial").any()


def test_the_way_back_is_not_weakened_at_the_edge(brain: Volume) -> None:
    grid = target_grid(brain, "axial", 2.3, (48, 48), 16)
    weight = resample_mask(brain, grid)
    found = resample_back(Volume(np.where(weight, 5.0, 0.0), grid), weight, brain)
    assert found.dtype == np.float32
    assert (found[~brain.array] == 0).all()
    assert np.mean(np.isclose(found[brain.array], 5.0, atol=1e-4)) > 0.99
